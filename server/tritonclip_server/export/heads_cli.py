"""The `tritonclip-server head` command."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from tritonclip_server.export import classifier_options
from tritonclip_server.export.exit_codes import exit_code_of
from tritonclip_server.export.heads import FILE, is_published, publish_head, read_head

EXAMPLES = f"""examples:
  tritonclip-server head birds/ --repository build/models/demo
  tritonclip-server head birds/ --activate

{classifier_options.RUNNING}
"""


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    command = argparse.ArgumentParser(
        prog="tritonclip-server head",
        description="Store a trained head in a served repository: Triton models head_NAME and classify_NAME.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "head", type=Path, metavar="HEAD", help=f"what `tritonclip train` wrote: its folder, or the {FILE} in it"
    )
    command.add_argument(
        "--name", metavar="NAME", help="what clients call it (default: the name that it was trained under)"
    )
    classifier_options.add_options(command)
    return command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 1 with one line on stderr, or 130 when interrupted."""
    options = parser().parse_args(arguments)
    return exit_code_of(lambda: _publish(options))


def _publish(options: argparse.Namespace) -> None:
    head = read_head(options.head)
    name = options.name or head.name
    classifier_options.run(
        options,
        name,
        lambda: is_published(options.repository, head, name),
        lambda accept: publish_head(options.repository, head, name, accept),
    )
