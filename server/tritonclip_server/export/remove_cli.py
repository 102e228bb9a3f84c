"""The `tritonclip-server remove` command."""

import argparse
from collections.abc import Sequence

from tritonclip_server.export import classifier_options
from tritonclip_server.export.exit_codes import exit_code_of

EXAMPLES = """examples:
  tritonclip-server remove birds --repository build/models/demo
  tritonclip-server remove birds --activate

A running server goes on with it until it starts again, or lets go of it by --activate."""


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    command = argparse.ArgumentParser(
        prog="tritonclip-server remove",
        description="Remove a label set, zero-shot or trained, from a served repository.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("name", metavar="NAME", help="what clients call it")
    classifier_options.add_places(command)
    return command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 1 with one line on stderr, or 130 when interrupted."""
    options = parser().parse_args(arguments)
    return exit_code_of(lambda: classifier_options.remove(options, options.name))
