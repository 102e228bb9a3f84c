"""What the commands `labels`, `head` and `remove` share: in which repository, who takes it up, and doing so."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tritonclip.protocol import qualified
from tritonclip_server.export.classifiers import Accept, remove_classifier
from tritonclip_server.export.errors import ExportError
from tritonclip_server.export.pipeline import MODELS_FOLDER
from tritonclip_server.export.publishing import clear_leftovers
from tritonclip_server.repository.label_sets import LabelSet, read_label_set
from tritonclip_server.repository.manifest import name_of
from tritonclip_server.resources import DEMO

if TYPE_CHECKING:
    from tritonclip_server.export.activation import Activation

RUNNING = """A server reads label sets when it starts. A running one that was started with an admin key takes one up by
--activate, with no request lost."""


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options of what publishes."""
    add_places(command)
    command.add_argument("--if-changed", action="store_true", help="publish nothing where the same is there already")


def add_places(command: argparse.ArgumentParser) -> None:
    """Add the repository and the servers."""
    command.add_argument(
        "--repository",
        type=Path,
        default=MODELS_FOLDER / DEMO.name,
        metavar="DIR",
        help="the served repository (default: %(default)s)",
    )
    command.add_argument(
        "--activate",
        action="store_true",
        help="have the running server, or all of its name, take the change up",
    )
    command.add_argument(
        "--url",
        metavar="URL",
        help="that server: grpc://HOST:PORT or http://HOST:PORT (default: TRITONCLIP_URL, else grpc://localhost:8001)",
    )
    command.add_argument(
        "--admin-key",
        metavar="KEY",
        help="the server's (default: TRITONCLIP_ADMIN_KEY, which other users of this machine cannot read)",
    )


def run(
    options: argparse.Namespace,
    name: str,
    is_published: Callable[[], bool],
    publish: Callable[[Accept | None], LabelSet],
) -> None:
    """Publish a label set unless it need not be, and have running servers take it up where that is asked for.

    Servers are looked at before anything is made. Raises an ExportError.
    """
    with _takers(options) as activation:
        _publish(options, name, is_published, publish, activation.prepare if activation else None)
        _switch(activation, "serves it")


def remove(options: argparse.Namespace, name: str) -> None:
    """Remove a label set, and have running servers let go of it where that is asked for. Raises an ExportError."""
    with _takers(options) as activation:
        remove_classifier(options.repository, name, activation.prepare if activation else None)
        print(f"removed {name} from {options.repository}")
        _switch(activation, "serves it no more")


@contextmanager
def _takers(options: argparse.Namespace) -> "Iterator[Activation | None]":
    """The servers that are to take up a change, looked at before anything changes; None where nobody asks for that."""
    clear_leftovers(options.repository)
    if not options.activate:
        if options.url or options.admin_key:
            raise ExportError("--url and --admin-key are for --activate")
        yield None
        return
    try:
        from tritonclip_server.export.activation import Activation
    except ModuleNotFoundError as error:
        raise ExportError(f"--activate needs {error.name}: pip install tritonclip") from error
    with Activation(options.url, options.admin_key, options.repository) as activation:
        yield activation


def _switch(activation: "Activation | None", what: str) -> None:
    if activation is None:
        return
    try:
        servers = activation.switch()
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(
            "the repository was changed, and running servers may lack the change: start them again to have it"
        ) from interrupt
    for server in servers:
        print(f"{server} {what}")


def _publish(
    options: argparse.Namespace,
    name: str,
    is_published: Callable[[], bool],
    publish: Callable[[Accept | None], LabelSet],
    accept: Accept | None,
) -> None:
    present = read_label_set(options.repository, name)
    if options.if_changed and present is not None and is_published():
        print(f"label set {name} in {options.repository} is up to date")
        if accept is not None:
            accept()
        return
    label_set, served_as = publish(accept), name_of(options.repository)
    made_of = f" under {len(label_set.templates)} templates" if label_set.templates else ", trained"
    models = " and ".join(qualified(model, served_as) for model in label_set.models)
    print(
        f"published {models}: {len(label_set.labels)} labels{made_of}, in "
        f"{options.repository}, for fingerprint {label_set.fingerprint}"
    )
