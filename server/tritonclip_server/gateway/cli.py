"""The `tritonclip-server gateway` command."""

import argparse
import ipaddress
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tritonclip import AsyncClient, ConfigError, TritonClipError
from tritonclip_server.gateway.access.keys import KeyFileError
from tritonclip_server.gateway.app import create_app
from tritonclip_server.gateway.http.cors import parse_origin
from tritonclip_server.gateway.http.server import allow_descriptors, calm, make_server
from tritonclip_server.gateway.http.trace_context import ENDPOINT, open_tracer
from tritonclip_server.gateway.logs import RequestLog, start_logging
from tritonclip_server.gateway.model_options import aliases_of, models_of
from tritonclip_server.gateway.options import add_keys_option, positive
from tritonclip_server.gateway.search.opening import named_uri, open_indexes
from tritonclip_server.gateway.settings import Limits, Settings, UrlImages

if TYPE_CHECKING:
    from tritonclip.search import Index

DEFAULT_PORT = 8080
CREATE_KEY = "tritonclip-server keys create NAME"


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    command = argparse.ArgumentParser(
        prog="tritonclip-server gateway",
        allow_abbrev=False,  # --max-items is gone, and must not be taken for --max-items-in-flight
        description="Serve the OpenAI-compatible API and the playground page over a Triton server. "
        f"With {ENDPOINT} in the environment, requests are traced (OpenTelemetry, by OTLP over HTTP).",
    )
    add_keys_option(command)
    command.add_argument("--host", default="127.0.0.1", help="where to listen (default: %(default)s)")
    command.add_argument("--port", type=int, default=DEFAULT_PORT, help="default: %(default)s; 0: any")
    command.add_argument(
        "--url",
        action="append",
        default=[],
        metavar="[NAME=]URL",
        help="the Triton server (default: TRITONCLIP_URL, else grpc://localhost:8001); repeated, with a NAME each, for "
        "several models, of which the first is the default one",
    )
    command.add_argument(
        "--alias",
        action="append",
        default=[],
        metavar="NAME[=MODEL]",
        help="another name for the first model, or for MODEL, which programs may ask for (may be repeated); '*': any "
        "name",
    )
    command.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="an origin, as https://app.example, whose pages may use the gateway (may be repeated; '*': any page's)",
    )
    command.add_argument(
        "--index",
        action="append",
        default=[],
        type=named_uri,
        metavar="NAME=URI",
        help="an index to search, which `tritonclip index add` made: a folder, s3://… or gs://… (may be repeated)",
    )
    command.add_argument(
        "--log-requests",
        action="store_true",
        help="write a line of JSON on each request to standard output: ids, counts, status, milliseconds by stage",
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
    return command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = parser().parse_args(arguments)
    try:
        models = models_of(options.url)
        settings, indexes = _settings(options, [*models]), open_indexes(options.index)
        return 0 if options.check else _serve(options, settings, models, indexes)
    except (KeyFileError, TritonClipError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _serve(
    options: argparse.Namespace,
    settings: Settings,
    models: Mapping[str, str | None],
    indexes: "Mapping[str, Index]",
) -> int:
    allow_descriptors()
    tracer = open_tracer(os.environ)
    with _listen(options.host, options.port) as listener:
        host, port = listener.getsockname()[:2]
        if settings.keys is None and not ipaddress.ip_address(host).is_loopback:
            raise ConfigError(f"without --keys the gateway serves loopback alone, not {options.host}")
        clients = {name: AsyncClient(url, timeout=settings.limits.seconds) for name, url in models.items()}
        request_log = RequestLog() if options.log_requests else None
        app = create_app(clients, settings, indexes=indexes, tracer=tracer, request_log=request_log)
        server = make_server(app, settings.limits)
        shown = f"[{host}]" if ":" in host else host
        if settings.keys is None:
            print("no keys: whoever is on this machine may use the gateway", file=sys.stderr)
        print(f"gateway: http://{shown}:{port}", file=sys.stderr, flush=True)
        # uvicorn drains at either signal, and then raises it again; by then it has done all that it asks for.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, server.handle_exit)
        start_logging()
        calm()
        server.run(sockets=[listener])
    return 0


def _settings(options: argparse.Namespace, models: Sequence[str]) -> Settings:
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
        aliases=aliases_of(options.alias, models),
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


def _add_limits(group: "argparse._ArgumentGroup") -> None:
    what = {
        "images": "images in a request",
        "texts": "texts in a request, labels and documents too",
        "body_bytes": "bytes of a body",
        "image_bytes": "bytes of an image, encoded",
        "image_pixels": "pixels of an image",
        "text_characters": "characters of a text",
        "answer_bytes": "bytes of an answer with scores of many images and texts",
        "cached_text_bytes": "bytes that a model's texts whose features are kept take, with these",
        "seconds": "seconds for a request",
        "items_in_flight": "images of a model's requests at work, or four times as many texts; beyond it they wait",
        "waiting": "requests that wait for bytes or a model's places; beyond it one of the caller with most is refused",
        "waiting_seconds": "seconds that a request waits; then it is refused with 429",
        "cached_texts": "texts of a model whose features are kept",
        "bytes_in_flight": "bytes of all requests at work; beyond it requests wait",
        "bytes_in_flight_per_key": "bytes of one key's requests at work; without keys, of one address's",
        "searches": "searches of indexes at work, of all requests; beyond it they wait",
        "connections": "open connections; beyond it the oldest that asks for nothing is closed",
    }
    defaults = Limits()
    for name, meaning in what.items():
        default = getattr(defaults, name)
        group.add_argument(
            f"--max-{name.replace('_', '-')}",
            dest=name,
            type=positive(type(default)),
            default=default,
            metavar="N",
            help=f"{meaning} (default: %(default)s)",
        )
