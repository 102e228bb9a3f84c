"""``tritonclip embed-dataset``: a data set of any size to Parquet with vectors, shard by shard."""

import argparse
import sys
from dataclasses import asdict

from tritonclip import _defaults
from tritonclip._client import Client
from tritonclip.cli import _output
from tritonclip.cli._extras import open_bulk

_SHOWN_FAILURES = 20


def run(arguments: argparse.Namespace, client: Client) -> int:
    """Embed what is missing of the output; returns how many rows and shards failed."""
    _output.check_format(arguments.format, ("table", "json"))
    report = open_bulk().embed_dataset(
        client,
        arguments.input,
        arguments.dataset,
        texts=arguments.texts,
        column=arguments.column,
        columns=[name.strip() for name in arguments.columns.split(",") if name.strip()],
        precision=arguments.precision,
        engine=arguments.engine,
        workers=arguments.workers,
        patience=arguments.patience,
        progress=sys.stderr.isatty(),
    )
    for reason in list(report.failures.values())[:_SHOWN_FAILURES]:
        print(f"tritonclip: {reason}", file=sys.stderr)
    facts = asdict(report)
    if arguments.format == "json":
        text = _output.to_json(facts)
    else:
        counts = {"failures": len(report.failures), "gone": len(report.gone)}
        text = _output.to_facts({**facts, **counts, "rows a second": report.rows / max(report.seconds, 1e-9)})
    _output.write_text(text, arguments.output)
    return int(report.failed_rows) + len(report.failures)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``tritonclip embed-dataset``."""
    add = parser.add_argument
    add("input", metavar="INPUT", help="a folder of WebDataset's .tar, of .parquet or of images, or one such file")
    add("dataset", metavar="OUTPUT", help="a folder; both may be URIs in object stores (s3://, gs://, …)")
    add("--texts", action="store_true", help="embed captions in place of images; also .txt with a text on each line")
    add("--column", metavar="NAME", help="what of .parquet is embedded (default: image; for texts text, else caption)")
    add("--columns", default="", metavar="A,B,C", help="carry these along; of .tar they are entries of the .json")
    add(
        "--precision",
        choices=("float32", "float16"),
        default="float32",
        help="of the vectors in the files (default: %(default)s)",
    )
    add("--engine", choices=("local", "ray"), default="local", help="who does the work (default: %(default)s)")
    add("--workers", type=int, metavar="N", help="shards at a time (default: here 2, on Ray one for each CPU)")
    add(
        "--patience",
        type=float,
        default=_defaults.PATIENCE,
        metavar="SECONDS",
        help="how long servers that refuse, or are away, are waited for (default: %(default)g)",
    )
