"""How the exporter's commands end: with an exit code, and one line on stderr where something is wrong."""

import sys
from collections.abc import Callable

from tritonclip_server.export.errors import ExportError


def exit_code_of(run: Callable[[], None]) -> int:
    """Run a command; returns 0, 1 with its error in one line, or 130 when interrupted.

    A KeyboardInterrupt with a message says what was done all the same.
    """
    try:
        run()
    except (ExportError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as interrupt:
        print(f"interrupted; {str(interrupt) or 'nothing was published'}", file=sys.stderr)
        return 130
    return 0
