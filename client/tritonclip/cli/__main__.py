"""``python -m tritonclip.cli`` is the ``tritonclip`` command."""

import sys

from tritonclip.cli import main

sys.exit(main())
