"""What can be done here: ``python -m common [BUNDLE [CONFIG]]``, and data checked: ``python -m common check``."""

import os
import sys

from .bundle.arguments import main

if __name__ == "__main__":
    if sys.argv[1:2] == ["check"]:
        from .evaluation.data_check import main as check

        sys.exit(check(sys.argv[2:]))
    try:
        status = main()
        sys.stdout.flush()
    except BrokenPipeError:  # "| head" has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    sys.exit(status)
