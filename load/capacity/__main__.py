"""`python -m load.capacity`, `python -m load.capacity compare` and `python -m load.capacity bench`."""

import sys

from load.capacity.cli import main

sys.exit(main())
