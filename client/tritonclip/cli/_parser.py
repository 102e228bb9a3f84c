"""The command's arguments and its help."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from tritonclip import _defaults
from tritonclip._client import Client
from tritonclip._operations.truncation import OnTruncation
from tritonclip._version import __version__
from tritonclip.cli import _classify, _embed, _embed_dataset, _evaluate, _index, _rank, _search, _status, _train

_UNSAID = dict.fromkeys(("model", "token", "ca_file", "client_certificate", "client_key"))
_FORMATS = ("table", "json", "csv", "npy", "markdown", "html")
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
    parser.set_defaults(url=None, timeout=_defaults.TIMEOUT, format="table", output=None, header=[], **_UNSAID)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(
        group: Any, name: str, run: Callable[[argparse.Namespace, Client], int] | None, summary: str
    ) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = group.add_parser(
            name, help=summary, description=f"{summary}.", parents=[common]
        )
        command.set_defaults(run=run)
        return command

    _add_embed(add(commands, "embed", _embed.run, "Turn images or texts into vectors"))
    _add_rank(add(commands, "rank", _rank.run, "Compare images with sentences, the best first"))
    _add_classify(add(commands, "classify", _classify.run, "Find the label that fits an image"))
    add(commands, "status", _status.run, "Show what the server runs")
    evaluate = add(commands, "evaluate", None, "Measure how good the deployed model is")
    kinds = evaluate.add_subparsers(title="what to measure", required=True, metavar="WHAT")
    _add_classification(
        add(kinds, "classification", _evaluate.run_classification, "Measure zero-shot accuracy on labelled images")
    )
    _add_retrieval(add(kinds, "retrieval", _evaluate.run_retrieval, "Measure recall between images and captions"))
    _train.add_arguments(
        add(commands, "train", _train.run, "Train a classifier of your own classes on the model's vectors")
    )
    _embed_dataset.add_arguments(
        add(commands, "embed-dataset", _embed_dataset.run, "Turn a data set of any size into files of vectors")
    )
    index = add(commands, "index", None, "Build an index of images, and look after it")
    actions = index.add_subparsers(title="what to do", required=True, metavar="ACTION")
    _index.add_commands(actions, add, _IMAGES)
    search = add(commands, "search", _search.run, "Find images in an index by a sentence, by an image, or by both")
    _search.add_arguments(search)
    _add_truncation(search)
    return parser


def _common_options() -> argparse.ArgumentParser:
    # Understood before and after the command's name. SUPPRESS keeps the second place from erasing the first.
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    group = common.add_argument_group("server and output")
    group.add_argument(
        "--url",
        help="the server: grpc(s):// or http(s)://HOST:PORT, with commas between several "
        f"(default: $TRITONCLIP_URL, else {_defaults.URL})",
    )
    group.add_argument(
        "--model",
        metavar="NAME",
        help="one of several models that the server carries (default: ?model=NAME in the URL, else $TRITONCLIP_MODEL)",
    )
    group.add_argument(
        "--timeout",
        type=float,
        metavar="SECONDS",
        help=f"for one request, retries included (default: {_defaults.TIMEOUT:g})",
    )
    group.add_argument(
        "--ca-file", metavar="FILE", help="trust this authority alone, in PEM (default: $TRITONCLIP_CA_FILE)"
    )
    group.add_argument(
        "--client-certificate",
        metavar="FILE",
        help="shown to a server that asks for one, in PEM (default: $TRITONCLIP_CLIENT_CERTIFICATE)",
    )
    group.add_argument(
        "--client-key",
        metavar="FILE",
        help="its key, where the certificate's file does not hold it (default: $TRITONCLIP_CLIENT_KEY)",
    )
    group.add_argument(
        "--token",
        help="sent as Authorization: Bearer (default: $TRITONCLIP_TOKEN, which others on this machine do not see)",
    )
    group.add_argument(
        "--header", action="append", metavar="NAME: VALUE", help="sent with each request; may be repeated"
    )
    group.add_argument(
        "--format",
        choices=_FORMATS,
        help="default: table; npy is for embed alone, markdown for evaluate, html for search",
    )
    group.add_argument("--output", metavar="FILE", help="write there instead of to standard output")
    return common


def _add_truncation(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--on-truncation",
        choices=get_args(OnTruncation),
        default="warn",
        help="what becomes of texts that are longer than what the model reads (default: %(default)s)",
    )


def _add_embed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="*", metavar="IMAGE", help=_IMAGES)
    parser.add_argument("--text", action="append", default=[], metavar="SENTENCE", help="a text; may be repeated")
    parser.add_argument("--texts-from", metavar="FILE", help="a file with a text on each line; - for standard input")
    _add_truncation(parser)


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
    _add_truncation(parser)


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
        "--threshold",
        type=float,
        metavar="P",
        help="leave out labels of a probability below P, from 0 to 1: of a model with a softmax (`tritonclip status` "
        "says) it is relative to the other labels, of one with a sigmoid it says by itself whether a label fits",
    )
    parser.add_argument(
        "--min-cosine", type=float, metavar="C", help="leave out labels of a cosine below C, from -1 to 1"
    )
    _add_truncation(parser)


def _add_classification(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data",
        type=Path,
        metavar="DATA",
        help="a folder with a folder for each class, or a CSV file with the columns path,label (or path,index)",
    )
    parser.add_argument("--label-set", required=True, metavar="NAME", help="the label set stored on the server")
    parser.add_argument(
        "--class-map",
        type=Path,
        metavar="FILE",
        help="a CSV file with the columns folder,label (or folder,index), where folders are not called as their labels",
    )
    parser.add_argument(
        "--resume", type=Path, metavar="FILE", help="keep each answer in this file, and go on from what it has"
    )
    _add_report_options(parser, ["imagenet"])


def _add_retrieval(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data",
        type=Path,
        metavar="DATA",
        help="a folder of images with captions in COCO's or Karpathy's JSON, or a CSV file with columns path,caption",
    )
    parser.add_argument(
        "--captions",
        type=Path,
        metavar="FILE",
        help="the captions' JSON file (default: dataset_*.json or annotations/captions_*.json in DATA)",
    )
    parser.add_argument("--split", metavar="NAME", help="the split of Karpathy's JSON (default: test)")
    _add_report_options(parser, ["coco", "flickr30k"])


def _add_report_options(parser: argparse.ArgumentParser, datasets: list[str]) -> None:
    parser.add_argument(
        "--dataset", choices=datasets, help="what DATA is: then the published figures are printed beside the measured"
    )
    parser.add_argument(
        "--report",
        action="append",
        default=[],
        metavar="FILE",
        help="also write the whole report to a file, as its ending says: .md, .json or .txt; may be repeated",
    )
