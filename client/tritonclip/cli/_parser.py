"""The command's arguments and its help."""

import argparse
from collections.abc import Callable

from tritonclip import _defaults
from tritonclip._client import Client
from tritonclip._version import __version__
from tritonclip.cli import _classify, _embed, _rank, _status

_FORMATS = ("table", "json", "csv", "npy")
_IMAGES = "a path, a quoted glob ('photos/**/*.jpg'), an http(s):// URL, or - for standard input"


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command; the chosen function is ``run``, called with the arguments and a client."""
    common = _common_options()
    parser = argparse.ArgumentParser(
        prog="tritonclip",
        description="Embed and compare images and texts on a Triton server that serves CLIP models.",
        epilog="Exit codes: 0 all went well, 1 some items failed or the server refused, 2 wrong usage, 3 no server.",
        parents=[_common_options()],  # its own: set_defaults below would reach into a shared one
    )
    parser.add_argument("--version", action="version", version=f"tritonclip {__version__}")
    parser.set_defaults(url=None, timeout=_defaults.TIMEOUT, format="table", output=None)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[argparse.Namespace, Client], int], summary: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=summary, description=f"{summary}.", parents=[common])
        command.set_defaults(run=run)
        return command

    _add_embed(add("embed", _embed.run, "Turn images or texts into vectors"))
    _add_rank(add("rank", _rank.run, "Compare images with sentences, the best first"))
    _add_classify(add("classify", _classify.run, "Find the label that fits an image"))
    add("status", _status.run, "Show what the server runs")
    return parser


def _common_options() -> argparse.ArgumentParser:
    # Understood before and after the command's name. SUPPRESS keeps the second place from erasing the first.
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    group = common.add_argument_group("server and output")
    group.add_argument(
        "--url", help=f"the server: grpc(s):// or http(s)://HOST:PORT (default: $TRITONCLIP_URL, else {_defaults.URL})"
    )
    group.add_argument(
        "--timeout",
        type=float,
        metavar="SECONDS",
        help=f"for one request, retries included (default: {_defaults.TIMEOUT:g})",
    )
    group.add_argument("--format", choices=_FORMATS, help="default: table; npy is for embed alone")
    group.add_argument("--output", metavar="FILE", help="write there instead of to standard output")
    return common


def _add_embed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="*", metavar="IMAGE", help=_IMAGES)
    parser.add_argument("--text", action="append", default=[], metavar="SENTENCE", help="a text; may be repeated")
    parser.add_argument("--texts-from", metavar="FILE", help="a file with a text on each line; - for standard input")


def _add_rank(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s [options] IMAGE SENTENCE [SENTENCE ...]"
    parser.add_argument(
        "inputs", nargs="*", metavar="IMAGE SENTENCE", help=f"an image, and then the sentences; the image is {_IMAGES}"
    )
    parser.add_argument(
        "--image",
        action="append",
        default=[],
        help="an image; may be repeated. The other arguments are then all sentences",
    )
    parser.add_argument("--texts-from", metavar="FILE", help="more sentences, one on each line; - for standard input")


def _add_classify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="+", metavar="IMAGE", help=_IMAGES)
    parser.add_argument("--labels", metavar="A,B,C", help="the labels, between commas")
    parser.add_argument("--labels-from", metavar="FILE", help="a file with a label on each line; - for standard input")
    parser.add_argument("--label-set", metavar="NAME", help="a label set that is stored on the server, instead")
    parser.add_argument(
        "--template",
        default=_defaults.TEMPLATE,
        help="the sentence made from a label, put where the braces are (default: %(default)r)",
    )
    parser.add_argument("--top-k", type=int, metavar="N", help="show the best N labels alone")
    parser.add_argument(
        "--threshold", type=float, metavar="P", help="leave out labels of a probability below P, from 0 to 1"
    )
