"""Run the command line as `python -m localmode`."""

import sys

from localmode.cli import main

if __name__ == "__main__":
    sys.exit(main())
