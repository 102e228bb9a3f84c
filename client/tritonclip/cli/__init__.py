"""The ``tritonclip`` command.

    arguments ──_parser──> a command (_embed, _rank, _classify, _status) ──_sources──> images and sentences
    ──Client──> results ──_output──> stdout or a file; what failed goes to stderr, a line for each item

Exit codes: 0 all went well, 1 some items failed or the server refused, 2 the command makes no sense, 3 no server
answered.
"""

import os
import sys
from collections.abc import Callable, Sequence

from tritonclip._client import Client
from tritonclip._errors import ConfigError, ConnectError, TritonClipError
from tritonclip.cli._parser import build_parser
from tritonclip.cli._usage import UsageError

ITEMS_FAILED = 1
USAGE = 2
NO_SERVER = 3
INTERRUPTED = 130

_HOW_TO_START = (
    "Start a server with `make up` in the tritonclip repository,\n"
    "or name one that runs: --url grpc://HOST:8001 (or http://HOST:8000), or set TRITONCLIP_URL."
)


def main(argv: Sequence[str] | None = None, *, client: Callable[..., Client] = Client) -> int:
    """Run the command and return its exit code; ``client`` makes the client from its URL and timeout."""
    parser = build_parser()
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as exc:  # argparse has printed help, or what is wrong
        return exc.code if isinstance(exc.code, int) else USAGE
    try:
        with client(arguments.url, timeout=arguments.timeout) as connection:
            failures: int = arguments.run(arguments, connection)
        sys.stdout.flush()
    except (UsageError, ConfigError) as exc:
        return _fail(USAGE, str(exc))
    except ConnectError as exc:
        return _fail(NO_SERVER, f"{exc}\n{_HOW_TO_START}")
    except TritonClipError as exc:
        return _fail(ITEMS_FAILED, str(exc))
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as exc:
        return _fail(USAGE, str(exc))
    except KeyboardInterrupt:
        return INTERRUPTED
    return ITEMS_FAILED if failures else 0


def _fail(code: int, message: str) -> int:
    print(f"tritonclip: {message}", file=sys.stderr)
    return code
