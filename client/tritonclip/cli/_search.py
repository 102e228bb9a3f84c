"""``tritonclip search``: the images of an index that are nearest to a sentence, to an image, or to both."""

import argparse
import sys
from typing import Any

from tritonclip._client import Client
from tritonclip.cli import _output, _sources
from tritonclip.cli._extras import open_search
from tritonclip.cli._search_page import Shown, to_page
from tritonclip.cli._usage import UsageError

FORMATS = ("table", "json", "csv", "html")
_HEADER = ("score", "uri", "width", "height", "caption")


def run(arguments: argparse.Namespace, client: Client) -> int:
    """Search an index, or list its near duplicates."""
    _output.check_format(arguments.format, FORMATS)
    asked = arguments.text is not None or arguments.image is not None
    if asked == (arguments.near_duplicates is not None):
        raise UsageError('say what to look for: tritonclip search INDEX "a red bicycle", --image FILE, or both')
    search = open_search()
    with search.Index.open(arguments.index, client) as index:
        if asked:
            groups = [_find(search, index, arguments)]
            title = " + ".join(filter(None, [arguments.text, arguments.image]))
        else:
            groups = [tuple(group) for group in index.near_duplicates(arguments.near_duplicates)]
            title = f"Near duplicates, from a cosine of {arguments.near_duplicates:g}"
        if not any(groups):
            print("tritonclip: nothing was found", file=sys.stderr)
        _output.write_text(_render(arguments.format, title, groups, index, numbered=not asked), arguments.output)
    return 0


def _find(search: Any, index: Any, arguments: argparse.Namespace) -> Any:
    image = None
    if arguments.image is not None:
        found = _sources.find_images([arguments.image])
        if len(found) != 1:
            raise UsageError(f"--image {arguments.image}: {len(found)} files, and a query has one")
        image = found[0].item
    return index.search(
        arguments.text,
        image=image,
        minus=arguments.minus,
        weights=search.Weights(**_weights(arguments.weights)),
        top_k=arguments.top_k,
        where=arguments.where,
        exact=True if arguments.exact else None,
        on_truncation=arguments.on_truncation,
    ).hits


def _weights(text: str | None) -> dict[str, float]:
    weights: dict[str, float] = {}
    for part in filter(None, (text or "").split(",")):
        name, _, value = part.partition("=")
        try:
            weights[name.strip()] = float(value)
        except ValueError:
            raise UsageError(f"--weights: expected text=1,image=0.5,minus=0.5 (any of them), not {part!r}") from None
    unknown = weights.keys() - {"text", "image", "minus"}
    if unknown:
        raise UsageError(f"--weights: there are text, image and minus, not {', '.join(sorted(unknown))}")
    return weights


def _render(format_: str, title: str, groups: list[Any], index: Any, *, numbered: bool) -> str:
    if format_ == "html":
        return to_page(title, [[Shown(hit, index.thumbnail(hit.id)) for hit in group] for group in groups])
    if format_ == "json":
        documents = [[hit.to_document() for hit in group] for group in groups]
        return _output.to_json(documents if numbered else documents[0])
    header = (("group", *_HEADER)) if numbered else _HEADER
    rows = [
        [*([number] if numbered else []), hit.score, hit.uri, *(hit.metadata[name] for name in _HEADER[2:])]
        for number, group in enumerate(groups, 1)
        for hit in group
    ]
    return _output.to_csv(header, rows) if format_ == "csv" else _output.to_table(header, rows)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of ``tritonclip search``, beside the common ones."""
    parser.add_argument("index", metavar="INDEX", help="a folder, or a URI in an object store (s3://, gs://)")
    parser.add_argument("text", nargs="?", metavar="SENTENCE", help="what the images shall show")
    parser.add_argument("--image", metavar="IMAGE", help="an image like which they shall be: a path or a URL")
    parser.add_argument(
        "--minus", action="append", default=[], metavar="SENTENCE", help="what they shall not show; may be repeated"
    )
    parser.add_argument(
        "--weights", metavar="PART=W,…", help="how much text, image and minus count (default: text=1,image=1,minus=0.5)"
    )
    parser.add_argument("--top-k", type=int, default=20, metavar="N", help="how many (default: %(default)s)")
    parser.add_argument(
        "--where",
        metavar="CONDITION",
        help='only images that meet it, in SQL over the index\'s columns: "width > 1000"',
    )
    parser.add_argument("--exact", action="store_true", help="look at every image, also where there is an ANN index")
    parser.add_argument(
        "--near-duplicates", type=float, metavar="COSINE", help="list groups of images this near, such as 0.97, instead"
    )
