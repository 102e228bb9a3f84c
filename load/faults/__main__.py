"""`python -m load.faults`."""

import sys

from load.faults.cli import main

if __name__ == "__main__":
    sys.exit(main())
