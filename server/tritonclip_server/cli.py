"""The `tritonclip-server` command: each subcommand is a part of the package, loaded when it is asked for."""

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from tritonclip_server._version import __version__
from tritonclip_server.own_arguments import hide_secrets


@dataclass(frozen=True)
class Command:
    """A subcommand: the module whose `main` runs it, the extra that brings what it imports, and what it does."""

    module: str
    extra: str
    does: str


COMMANDS = {
    "export": Command("export.cli", "export", "publish a served repository from the weights of an OpenCLIP model"),
    "labels": Command("export.labels_cli", "export", "store a zero-shot classifier in a served repository"),
    "head": Command("export.heads_cli", "export", "store a trained head in a served repository"),
    "remove": Command("export.remove_cli", "export", "remove a label set or a trained head from a served repository"),
    "finetune": Command("finetune.cli", "finetune", "fine-tune an OpenCLIP model on labelled images"),
    "serve": Command("embedded.cli", "embedded", "run the embedded Triton server on a served repository"),
    "gateway": Command("gateway.cli", "gateway", "serve the OpenAI-compatible API over a Triton server"),
    "keys": Command("gateway.keys_cli", "gateway", "make, list and revoke the gateway's API keys"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 2 where there is no such subcommand or its extra is not installed."""
    name, *rest = [*(sys.argv[1:] if arguments is None else arguments)] or ["--help"]
    if name in ("-h", "--help"):
        print(usage())
        return 0
    if name == "--version":
        print(f"tritonclip-server {__version__}")
        return 0
    if name not in COMMANDS:
        print(f"error: no command {name!r}; there are {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    command = COMMANDS[name]
    hide_secrets(rest)
    try:
        module = importlib.import_module(f"{__package__}.{command.module}")
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] == __package__:  # one of our own: no extra would bring it
            raise
        hint = f"pip install 'tritonclip-server[{command.extra}]'"
        print(f"error: `{name}` needs {error.name}, which is not installed: {hint}", file=sys.stderr)
        return 2
    return int(module.main(rest))


def usage() -> str:
    """What `--help` prints."""
    rows = "\n".join(f"  {name:9}{command.does}" for name, command in COMMANDS.items())
    return (
        f"usage: tritonclip-server COMMAND …\n\n{rows}\n\n`tritonclip-server COMMAND --help` has the options of each."
    )
