"""The ``tritonclip`` command.

    arguments ──_parser──> a command (_embed, _rank, _classify, _status, …) ──_sources──> images and sentences
    ──Client──> results ──_output──> stdout or a file; what failed goes to stderr, a line for each item

Exit codes: 0 all went well, 1 some items failed or the server refused, 2 the command makes no sense, 3 no server
answered.
"""

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tritonclip._client import Client
from tritonclip._errors import ConfigError, ConnectError, TritonClipError
from tritonclip._operations.truncation import TruncationWarning
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
    """Run the command and return its exit code; ``client`` makes the client from its URL and options."""
    _replace_closed_streams()
    parser = build_parser()
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as exc:  # argparse has printed help, or what is wrong
        return exc.code if isinstance(exc.code, int) else USAGE
    try:
        with _told_in_a_line(), client(arguments.url, timeout=arguments.timeout, **_identity(arguments)) as connection:
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


def _replace_closed_streams() -> None:
    """Stand in for standard streams that were closed before this program began: Python has None in their places."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - for as long as it runs


def _identity(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options that say which model, who asks and whom to trust; those not given are left to the client."""
    names = ("model", "token", "ca_file", "client_certificate", "client_key")
    given = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    if arguments.header:
        given["headers"] = dict(_header(text) for text in arguments.header)
        if len(given["headers"]) < len(arguments.header):
            raise UsageError("--header: a name is there twice")
    return given


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise UsageError("--header: expected NAME: VALUE")
    return name.strip(), value.strip()


@contextmanager
def _told_in_a_line() -> Iterator[None]:
    """Have the library's warnings come out as the command's own messages do."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", TruncationWarning)
        warnings.showwarning = _show_warning
        yield


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"tritonclip: {message}", file=sys.stderr)


def _fail(code: int, message: str) -> int:
    print(f"tritonclip: {message}", file=sys.stderr)
    return code
