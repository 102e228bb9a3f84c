"""``tritonclip index``: build an index of images, and look after it."""

import argparse
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from tritonclip._client import Client
from tritonclip.cli import _output
from tritonclip.cli._extras import open_search
from tritonclip.cli._usage import UsageError

_SHOWN_ERRORS = 20


def run_add(arguments: argparse.Namespace, client: Client) -> int:
    """Take images into an index, which is made where there is none; returns how many failed."""
    _output.check_format(arguments.format, ("table", "json"))
    search = open_search()
    search.find_sources(arguments.sources)  # before an index is made that nothing goes into
    index = search.Index.open_or_create(
        arguments.index, client, precision=arguments.precision, thumbnails=arguments.thumbnails
    )
    with index:
        report = index.add(
            arguments.sources, digest=arguments.digest, prune=arguments.prune, progress=sys.stderr.isatty()
        )
        _write(arguments, {**asdict(report), "rows": index.info().rows})
        if report.failed:
            _show_errors(index, report.failed)
    return int(report.failed)


def run_info(arguments: argparse.Namespace, client: Client) -> int:  # noqa: ARG001 - every command gets one
    """Show what an index is, and which images are not in it."""
    _output.check_format(arguments.format, ("table", "json"))
    with open_search().Index.open(arguments.index) as index:
        info = asdict(index.info())
        errors = index.errors().to_pylist() if arguments.errors else []
    if arguments.format == "json":
        shown = [{**error, "time": error["time"].isoformat()} for error in errors]
        _output.write_text(
            _output.to_json(info | ({"error_list": shown} if arguments.errors else {})), arguments.output
        )
        return 0
    text = _output.to_facts({**info, "columns": ", ".join(info["columns"])})
    if errors:
        text += "\n" + _output.to_table(["image", "reason"], [[error["uri"], error["reason"]] for error in errors])
    _output.write_text(text, arguments.output)
    return 0


def run_remove(arguments: argparse.Namespace, client: Client) -> int:  # noqa: ARG001
    """Drop images from an index."""
    if bool(arguments.uris) == (arguments.where is not None):
        raise UsageError("name the images to remove, or give --where CONDITION")
    with open_search().Index.open(arguments.index) as index:
        _write(arguments, {"removed": index.remove(arguments.uris, where=arguments.where)})
    return 0


def run_export(arguments: argparse.Namespace, client: Client) -> int:  # noqa: ARG001
    """Write an index to files for other programs."""
    if arguments.parquet is None and arguments.npy is None:
        raise UsageError("give --parquet FILE, --npy FILE, or both")
    with open_search().Index.open(arguments.index) as index:
        for path, write in ((arguments.parquet, index.export_parquet), (arguments.npy, index.export_npy)):
            if path is not None:
                _write(arguments, {"file": path, "rows": write(path)})
    return 0


def run_build(arguments: argparse.Namespace, client: Client) -> int:  # noqa: ARG001
    """Build the ANN index of an index that is too large to be searched exactly."""
    with open_search().Index.open(arguments.index) as index:
        report = asdict(index.build())
    _write(arguments, {**report, "parameters": ", ".join(f"{k} {v}" for k, v in report["parameters"].items())})
    return 0


def run_compact(arguments: argparse.Namespace, client: Client) -> int:  # noqa: ARG001
    """Merge an index's small files, and drop its old versions."""
    with open_search().Index.open(arguments.index) as index:
        index.compact()
        _write(arguments, {"rows": index.info().rows, "bytes": index.info().bytes})
    return 0


def add_commands(group: Any, add: Callable[..., argparse.ArgumentParser], images: str) -> None:
    """The commands below ``tritonclip index``."""

    def command(name: str, run: Callable[[argparse.Namespace, Client], int], summary: str) -> argparse.ArgumentParser:
        parser = add(group, name, run, summary)
        parser.add_argument("index", metavar="INDEX", help="a folder, or a URI in an object store (s3://, gs://)")
        return parser

    adding = command("add", run_add, "Embed images and keep them in an index, which is made where there is none")
    adding.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help=f"a folder, {images}; a .csv or .parquet file with a column path, url or image; a WebDataset's .tar; "
        "an output of embed-dataset",
    )
    adding.add_argument("--digest", action="store_true", help="tell changed files by content, not by size and time")
    adding.add_argument("--prune", action="store_true", help="drop images of these sources whose file is gone")
    adding.add_argument(
        "--precision",
        choices=("float32", "float16"),
        default="float32",
        help="of a new index's vectors on disk (default: %(default)s)",
    )
    adding.add_argument("--no-thumbnails", dest="thumbnails", action="store_false", help="keep none, in a new index")
    info = command("info", run_info, "Show what an index is, and how large")
    info.add_argument("--errors", action="store_true", help="list the images that are not in it, with the reasons")
    remove = command("remove", run_remove, "Drop images from an index")
    remove.add_argument("uris", nargs="*", metavar="IMAGE", help="a path or URL, as the index has it")
    remove.add_argument("--where", metavar="CONDITION", help='every image that meets it, such as "width < 100"')
    export = command("export", run_export, "Write an index to files for other programs")
    export.add_argument("--parquet", metavar="FILE", help="all columns, vectors included")
    export.add_argument("--npy", metavar="FILE", help="the vectors [N, D]; ids and uris go beside it, into .jsonl")
    command("build", run_build, "Build an ANN index, for more than a million images, and measure its recall")
    command("compact", run_compact, "Merge an index's small files, and drop its old versions")


def _write(arguments: argparse.Namespace, facts: dict[str, Any]) -> None:
    text = _output.to_json(facts) if arguments.format == "json" else _output.to_facts(facts)
    _output.write_text(text, arguments.output)


def _show_errors(index: Any, count: int) -> None:
    newest = index.errors().to_pylist()[-count:]
    for error in newest[:_SHOWN_ERRORS]:
        print(f"tritonclip: {error['uri']}: {error['reason']}", file=sys.stderr)
    if count > _SHOWN_ERRORS:
        print(f"tritonclip: … and {count - _SHOWN_ERRORS} more: `tritonclip index info --errors`", file=sys.stderr)
