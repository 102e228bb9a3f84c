"""The `tritonclip-server labels` command."""

import argparse
from collections.abc import Sequence

from tritonclip_server.export import classifier_options
from tritonclip_server.export.exit_codes import exit_code_of
from tritonclip_server.export.label_sets import is_published, publish_label_set
from tritonclip_server.export.label_sources import BUILT_IN_LABELS, BUILT_IN_TEMPLATES, read_prompts
from tritonclip_server.export.tracing import resolve_device

EXAMPLES = f"""examples:
  tritonclip-server labels imagenet --labels imagenet --repository build/models/convnext_base_w-laion2b_s13b_b82k_augreg
  tritonclip-server labels animals --labels animals.txt --templates simple

{classifier_options.RUNNING}
"""


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    command = argparse.ArgumentParser(
        prog="tritonclip-server labels",
        description="Store a zero-shot classifier in a served repository: Triton models head_NAME and classify_NAME.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("name", metavar="NAME", help="what clients call it: lower-case letters, digits, - and _")
    command.add_argument(
        "--labels",
        required=True,
        metavar=f"FILE|{'|'.join(BUILT_IN_LABELS)}",
        help="a file with a label on each line; imagenet has its 1000 classes as open_clip names them",
    )
    command.add_argument(
        "--templates",
        default="openai",
        metavar=f"{'|'.join(BUILT_IN_TEMPLATES)}|FILE",
        help="openai: the 80 of its ImageNet classifier; simple: 7 of them; or a file with one on each line, the "
        "label's place written {} (default: %(default)s)",
    )
    command.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to encode the labels (default: auto)"
    )
    classifier_options.add_options(command)
    return command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 1 with one line on stderr, or 130 when interrupted."""
    options = parser().parse_args(arguments)
    return exit_code_of(lambda: _publish(options))


def _publish(options: argparse.Namespace) -> None:
    prompts = read_prompts(options.labels, options.templates)
    classifier_options.run(
        options,
        options.name,
        lambda: is_published(options.repository, options.name, prompts),
        lambda accept: publish_label_set(
            options.repository, options.name, prompts, resolve_device(options.device), accept
        ),
    )
