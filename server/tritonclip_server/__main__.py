"""`python -m tritonclip_server`: the `tritonclip-server` command where its script is not on the path."""

import sys

from tritonclip_server.cli import main

sys.exit(main())
