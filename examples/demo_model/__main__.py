"""`python -m examples.demo_model`."""

import sys

from examples.demo_model.cli import main

sys.exit(main())
