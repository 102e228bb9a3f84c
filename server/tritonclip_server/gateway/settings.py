"""What can be set, with its default: the command's options fill these in, nothing else reads them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

MIB = 2**20
ANY_NAME = "*"  # among the aliases


@dataclass(frozen=True)
class Limits:
    """What one request may ask for, and how much all of them together."""

    images: int = 64  # in a request
    texts: int = 2048  # in a request, labels and documents too: OpenAI's number
    body_bytes: int = 20 * MIB
    image_bytes: int = 10 * MIB  # encoded, after base64
    image_pixels: int = 100_000_000
    text_characters: int = 10_000  # the model reads 77 tokens; longer texts are cut there
    answer_bytes: int = 20 * MIB  # of scores and labels, where they are a product of what was sent
    cached_text_bytes: int = 64 * MIB  # what the cached texts of a model take in memory
    seconds: float = 30.0  # for a request, its body included
    items_in_flight: int = 256  # images of all requests for a model, or four times as many texts; beyond it they wait
    waiting: int = 1000  # requests that wait for room of a kind; OpenAI's SDK opens as many connections
    waiting_seconds: float = 10.0  # for room
    cached_texts: int = 10_000  # of a model
    bytes_in_flight: int = 256 * MIB  # of all requests, from their first byte to their answer
    bytes_in_flight_per_key: int = 128 * MIB  # of one key's; without keys, of one address's
    searches: int = 16  # of all requests at work, a thread each; beyond it they wait
    connections: int = 10_000  # fewer where the process may open fewer files


@dataclass(frozen=True)
class UrlImages:
    """How images are fetched from URLs, where that is allowed at all."""

    hosts: frozenset[str] | None = None  # None: any public host
    seconds: float = 10.0
    redirects: int = 3
    at_once: int = 64  # fetches of all requests
    at_once_each: int = 8  # fetches of one caller


@dataclass(frozen=True)
class Settings:
    """One gateway."""

    limits: Limits = field(default_factory=Limits)
    keys: Path | None = None
    host: str | None = None  # the name by which it listens, where it does so itself
    # Other names with the model each stands for, None for the first; ANY_NAME: whatever else a request calls it.
    aliases: Mapping[str, str | None] = field(default_factory=dict)
    origins: frozenset[str] = frozenset()  # whose pages may use it; "*": any
    url_images: UrlImages | None = None
