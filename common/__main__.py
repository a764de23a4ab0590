"""What can be done here: ``python -m common [BUNDLE [CONFIG]]``."""

import sys

from .bundle.arguments import main

if __name__ == "__main__":
    sys.exit(main())
