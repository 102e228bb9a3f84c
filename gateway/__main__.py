"""`python -m gateway`."""

import gc
import sys

from gateway.cli import main

# What has been imported stays until the end. Looking through it for garbage takes a tenth of a second, and would keep
# every request waiting now and then.
gc.freeze()
sys.exit(main())
