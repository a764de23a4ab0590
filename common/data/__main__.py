"""``python -m common.data check DIR --bundle NAME``, which is ``python -m common check DIR --bundle NAME``."""

import runpy

if __name__ == "__main__":
    runpy.run_module("common", run_name="__main__", alter_sys=True)
