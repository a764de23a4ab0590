"""What can be done here: ``python -m common [BUNDLE [CONFIG]]``, and data checked: ``python -m common check``."""

import sys

from .bundle.arguments import main

if __name__ == "__main__":
    if sys.argv[1:2] == ["check"]:
        from .evaluation.data_check import main as check

        sys.exit(check(sys.argv[2:]))
    sys.exit(main())
