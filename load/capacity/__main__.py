"""`python -m load.capacity` and `python -m load.capacity tune`."""

import sys

from load.capacity.cli import main

sys.exit(main())
