"""The `tritonclip-server keys` command: makes, lists and revokes API keys; a running gateway heeds changes at once."""

import argparse
import sys
from collections.abc import Sequence

from tritonclip import ConfigError
from tritonclip_server.gateway.access.keys import Key, KeyFile, KeyFileError
from tritonclip_server.gateway.options import add_keys_option, positive


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    command = argparse.ArgumentParser(
        prog="tritonclip-server keys", description="Make, list and revoke the API keys of the gateway."
    )
    actions = command.add_subparsers(dest="action", required=True)
    create = actions.add_parser("create", help="make a key and print it, this once")
    create.add_argument("name", help="whose it is, for people")
    create.add_argument("--requests-per-minute", type=positive(int), metavar="N", help="default: any number")
    create.add_argument("--images-per-minute", type=positive(int), metavar="N", help="default: any number")
    create.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="NAME",
        help="for this model alone, by the id that /v1/models has (may be repeated; default: any)",
    )
    revoke = actions.add_parser("revoke", help="remove a key; a running gateway heeds it at once")
    revoke.add_argument("id", help="as `list` shows it")
    for action in (create, revoke, actions.add_parser("list", help="show the keys, without their secrets")):
        add_keys_option(action)
    return command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, or 1 with one line on stderr."""
    options = parser().parse_args(arguments)
    try:
        _run(options)
    except (KeyFileError, ConfigError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _run(options: argparse.Namespace) -> None:
    if options.keys is None:
        raise ConfigError("which key file? give --keys FILE, or set TRITONCLIP_KEYS")
    file = KeyFile(options.keys)
    if options.action == "create":
        key, secret = file.create(
            options.name,
            requests_per_minute=options.requests_per_minute,
            images_per_minute=options.images_per_minute,
            models=options.model,
        )
        print(f"key {key.id} for {key.name}, shown this once:", file=sys.stderr)
        print(secret)
    elif options.action == "list":
        print("\n".join(_row(key) for key in file.read().values()) or "no keys")
    elif not file.revoke(options.id):
        raise KeyFileError(f"{options.keys}: no key {options.id!r}")


def _row(key: Key) -> str:
    requests, images = (
        "any number of" if limit is None else str(limit) for limit in (key.requests_per_minute, key.images_per_minute)
    )
    models = f"  of {', '.join(key.models)}" if key.models is not None else ""
    return f"{key.id}  {key.created}  {requests} requests and {images} images a minute{models}  {key.name}"
