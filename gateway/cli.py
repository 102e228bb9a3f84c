"""The `python -m gateway` command: serve, or make, list and revoke keys."""

import argparse
import ipaddress
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from gateway.app import create_app
from gateway.cors import parse_origin
from gateway.keys import Key, KeyFile, KeyFileError
from gateway.logs import start_logging
from gateway.server import allow_descriptors, make_server
from gateway.settings import Limits, Settings, UrlImages
from tritonclip import AsyncClient, ConfigError

DEFAULT_PORT = 8080
MOST = 10**12  # of anything: more would be a slip
CREATE_KEY = "python -m gateway keys create NAME"


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    command = argparse.ArgumentParser(
        prog="python -m gateway",
        allow_abbrev=False,  # --max-items is gone, and must not be taken for --max-items-in-flight
        description="Serve the OpenAI-compatible API and the playground page over a Triton server.",
    )
    keys = os.environ.get("TRITONCLIP_KEYS")
    _add_keys_option(command, Path(keys) if keys else None)
    command.add_argument("--host", default="127.0.0.1", help="where to listen (default: %(default)s)")
    command.add_argument("--port", type=int, default=DEFAULT_PORT, help="default: %(default)s; 0: any")
    command.add_argument("--url", help="the Triton server (default: TRITONCLIP_URL, else grpc://localhost:8001)")
    command.add_argument(
        "--alias",
        action="append",
        default=[],
        metavar="NAME",
        help="another name for the model, which programs may ask for (may be repeated); '*': any name",
    )
    command.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="an origin, as https://app.example, whose pages may use the gateway (may be repeated; '*': any page's)",
    )
    command.add_argument("--check", action="store_true", help="look at these options, say what is wrong, and end")
    _add_limits(command.add_argument_group("limits"))
    urls = command.add_argument_group("images from URLs")
    urls.add_argument("--url-images", action="store_true", help="fetch images from public http and https URLs")
    urls.add_argument(
        "--url-host",
        action="append",
        metavar="HOST",
        help="fetch from this host alone (may be repeated; implies --url-images)",
    )
    commands = command.add_subparsers(dest="command", metavar="keys", help="make, list and revoke API keys")
    _add_key_commands(commands.add_parser("keys"))
    return command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = parser().parse_args(arguments)
    try:
        if options.check:
            if options.command is not None:
                raise ConfigError(f"options alone are expected, no command: {options.command}")
            _settings(options)
            return 0
        return _keys(options) if options.command == "keys" else _serve(options, _settings(options))
    except (KeyFileError, ConfigError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _serve(options: argparse.Namespace, settings: Settings) -> int:
    allow_descriptors()
    with _listen(options.host, options.port) as listener:
        host, port = listener.getsockname()[:2]
        if settings.keys is None and not ipaddress.ip_address(host).is_loopback:
            raise ConfigError(f"without --keys the gateway serves loopback alone, not {options.host}")
        client = AsyncClient(options.url, timeout=settings.limits.seconds)
        server = make_server(create_app(client, settings), settings.limits)
        shown = f"[{host}]" if ":" in host else host
        if settings.keys is None:
            print("no keys: whoever is on this machine may use the gateway", file=sys.stderr)
        print(f"gateway: http://{shown}:{port}", file=sys.stderr, flush=True)
        # uvicorn drains at either signal, and then raises it again; by then it has done all that it asks for.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, server.handle_exit)
        start_logging()
        server.run(sockets=[listener])
    return 0


def _settings(options: argparse.Namespace) -> Settings:
    if options.keys is not None and not options.keys.is_file():
        if not options.keys.parent.is_dir():
            raise ConfigError(f"{options.keys}: there is no folder {options.keys.parent} for the key file")
        # Not an error: who deploys starts the services first. Nobody gets in until then; new keys are heeded at once.
        print(f"no keys yet, so every request is refused; make one: {CREATE_KEY}", file=sys.stderr)
    hosts = frozenset(host.lower() for host in options.url_host) if options.url_host else None
    return Settings(
        limits=Limits(**{name: getattr(options, name) for name in Limits.__dataclass_fields__}),
        keys=options.keys,
        host=options.host,
        aliases=tuple(dict.fromkeys(options.alias)),
        origins=frozenset(map(parse_origin, options.allow_origin)),
        url_images=UrlImages(hosts=hosts) if options.url_images or hosts else None,
    )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:  # the latter for ports that are none
        reason = error.strerror if isinstance(error, OSError) else error
        raise OSError(f"cannot listen on {host}:{port} ({reason}); choose another --port") from error


def _keys(options: argparse.Namespace) -> int:
    if options.keys is None:
        raise ConfigError("which key file? give --keys FILE, or set TRITONCLIP_KEYS")
    file = KeyFile(options.keys)
    if options.action == "create":
        key, secret = file.create(
            options.name, requests_per_minute=options.requests_per_minute, images_per_minute=options.images_per_minute
        )
        print(f"key {key.id} for {key.name}, shown this once:", file=sys.stderr)
        print(secret)
    elif options.action == "list":
        print("\n".join(_row(key) for key in file.read().values()) or "no keys")
    elif not file.revoke(options.id):
        raise KeyFileError(f"{options.keys}: no key {options.id!r}")
    return 0


def _row(key: Key) -> str:
    requests, images = (
        "any number of" if limit is None else str(limit) for limit in (key.requests_per_minute, key.images_per_minute)
    )
    return f"{key.id}  {key.created}  {requests} requests and {images} images a minute  {key.name}"


def _add_keys_option(command: argparse.ArgumentParser, default: object) -> None:
    command.add_argument(
        "--keys",
        type=Path,
        default=default,
        metavar="FILE",
        help="the file of API keys (default: TRITONCLIP_KEYS; none: no key is asked for, and only loopback is served)",
    )


def _add_limits(group: "argparse._ArgumentGroup") -> None:
    what = {
        "images": "images in a request",
        "texts": "texts in a request, labels and documents too",
        "body_bytes": "bytes of a body",
        "image_bytes": "bytes of an image, encoded",
        "image_pixels": "pixels of an image",
        "text_characters": "characters of a text",
        "answer_bytes": "bytes of an answer with scores of many images and texts",
        "cached_text_bytes": "bytes that texts whose features are kept take, with these",
        "seconds": "seconds for a request",
        "items_in_flight": "images of all requests at work, or four times as many texts; beyond it requests wait",
        "waiting": "requests that wait, for bytes or for places; beyond it one of the caller with most is refused",
        "waiting_seconds": "seconds that a request waits; then it is refused with 429",
        "cached_texts": "texts whose features are kept",
        "bytes_in_flight": "bytes of all requests at work; beyond it requests wait",
        "bytes_in_flight_per_key": "bytes of one key's requests at work; without keys, of one address's",
        "connections": "open connections; beyond it the oldest that asks for nothing is closed",
    }
    defaults = Limits()
    for name, meaning in what.items():
        default = getattr(defaults, name)
        group.add_argument(
            f"--max-{name.replace('_', '-')}",
            dest=name,
            type=_positive(type(default)),
            default=default,
            metavar="N",
            help=f"{meaning} (default: %(default)s)",
        )


def _positive(kind: type) -> "type":
    def parse(text: str) -> float:
        try:
            value: float = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
        if not 0 < value <= MOST:
            raise argparse.ArgumentTypeError(f"{text} is not more than 0, or too much")
        return value

    return parse  # type: ignore[return-value]


def _add_key_commands(command: argparse.ArgumentParser) -> None:
    actions = command.add_subparsers(dest="action", required=True)
    create = actions.add_parser("create", help="make a key and print it, this once")
    create.add_argument("name", help="whose it is, for people")
    create.add_argument("--requests-per-minute", type=_positive(int), metavar="N", help="default: any number")
    create.add_argument("--images-per-minute", type=_positive(int), metavar="N", help="default: any number")
    revoke = actions.add_parser("revoke", help="remove a key; a running gateway heeds it at once")
    revoke.add_argument("id", help="as `list` shows it")
    for action in (create, revoke, actions.add_parser("list", help="show the keys, without their secrets")):
        _add_keys_option(action, argparse.SUPPRESS)  # it may stand before `keys` too
