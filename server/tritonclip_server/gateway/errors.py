"""Every way in which a request can fail: one table, one shape.

    refused here            raise ApiError(code, …)
    TritonClipError         from the engine; `translate` finds its code in FAILURES
    anything else           "internal_error"; what it was stands in the log alone

The code decides the HTTP status (STATUSES), and the status decides OpenAI's `type`. A program sees OpenAI's envelope:
`{"error": {"message", "type", "param", "code"}}`, where `param` names the field or the item: `input[3]`. OpenAI's own
clients show people the message alone, so it begins with the param: "input[3]: truncated JPEG".

An engine's own words name addresses, files and models, which are the operator's business. Callers see them in one shape
alone: what is wrong with an item, as our own models say it. Otherwise they get a sentence of MESSAGES, and the log the
rest.
"""

import json
import random
import re
from collections.abc import Mapping
from typing import Any

from tritonclip import (
    ConnectError,
    DeadlineExceededError,
    InputError,
    InvalidArgumentError,
    RequestCancelledError,
    ResourceExhaustedError,
    StatusError,
    TritonClipError,
    UnavailableError,
    UnsupportedError,
)

STATUSES: Mapping[str, int] = {
    # What the request is made of, and what it holds.
    "invalid_http": 400,
    "invalid_json": 400,
    "invalid_form": 400,
    "invalid_encoding": 400,
    "invalid_header": 400,
    "missing_field": 400,
    "unknown_field": 400,
    "invalid_value": 400,
    "token_arrays_unsupported": 400,
    "invalid_tokens": 400,
    "unsupported_dimensions": 400,
    "unknown_label_set": 400,
    "invalid_filter": 400,
    "too_many_items": 400,
    "text_too_long": 400,
    "invalid_text": 400,
    "not_a_text": 400,
    "duplicate_label": 400,
    "answer_too_large": 400,
    "invalid_base64": 400,
    "invalid_image": 400,
    "image_too_large": 400,
    "image_has_too_many_pixels": 400,
    "url_images_disabled": 400,
    "url_refused": 400,
    "url_failed": 400,
    "refused_by_model": 400,
    "model_not_found": 404,
    "index_not_found": 404,
    "not_found": 404,
    "method_not_allowed": 405,
    "index_mismatch": 409,
    "body_too_large": 413,
    "unsupported_media_type": 415,
    "headers_too_large": 431,
    "request_timeout": 408,
    # Who asks, and how often.
    "invalid_api_key": 401,
    "forbidden_origin": 403,
    "model_not_allowed": 403,
    "rate_limit_exceeded": 429,
    "overloaded": 429,
    "cancelled": 499,  # nobody waits for this answer; the status is for the metrics
    # What failed, in the gateway and behind it.
    "internal_error": 500,
    "keys_unavailable": 503,
    "shutting_down": 503,
    "unsupported_by_model": 501,
    "engine_failed": 502,
    "engine_unavailable": 503,
    "index_unavailable": 503,
    "timeout": 504,
}

# An engine's error to a code, most specific first.
FAILURES: tuple[tuple[type[TritonClipError], str], ...] = (
    (UnavailableError, "engine_unavailable"),
    (ConnectError, "engine_unavailable"),
    (DeadlineExceededError, "timeout"),
    (RequestCancelledError, "cancelled"),
    (UnsupportedError, "unsupported_by_model"),
    (InvalidArgumentError, "refused_by_model"),
    (ResourceExhaustedError, "refused_by_model"),
    (TritonClipError, "engine_failed"),
)

_SHOWN_CHARACTERS = 40  # of a caller's own value
# What Retry-After says where nothing better is known: those who were refused together shall not come back together.
RETRY_SECONDS = (1.0, 4.0)


class ApiError(Exception):
    """A request that is not answered as it was meant, with all that its sender is told.

    `reason` is what is wrong, and `message` the same behind the name of what it is wrong with.
    """

    def __init__(self, code: str, reason: str, *, param: str | None = None, retry_after: float | None = None) -> None:
        self.code = code
        self.reason = reason
        self.param = param
        self.message = f"{param}: {reason}" if param else reason
        super().__init__(self.message)
        self.status = STATUSES[code]
        if retry_after is None and self.status in (429, 503):
            retry_after = random.uniform(*RETRY_SECONDS)  # noqa: S311 - nothing is kept secret by it
        self.retry_after = retry_after

    @property
    def type(self) -> str:
        """OpenAI's coarse name for the kind of error."""
        if self.status == 401:
            return "authentication_error"
        if self.status == 429:
            return "rate_limit_error"
        return "invalid_request_error" if self.status < 500 else "server_error"

    def body(self) -> dict[str, str | None]:
        """What stands under "error" in the envelope."""
        return {"message": self.message, "type": self.type, "param": self.param, "code": self.code}


def in_words(value: Any) -> str:
    """A value of a JSON document or a form as an error shows it: cut where it is long, never a whole list or object."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, bytes):
        return "a file"
    if isinstance(value, int) and abs(value) > 10**_SHOWN_CHARACTERS:  # Python refuses to write the longest
        return "a number of many digits"
    if isinstance(value, str) and len(value) > _SHOWN_CHARACTERS:
        value = f"{value[:_SHOWN_CHARACTERS]}…"
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


class ClientGone(Exception):
    """The caller hung up: its work ends, and there is nobody to answer."""


# What a caller is told in place of an engine's words.
MESSAGES: Mapping[str, str] = {
    "refused_by_model": "the model server refused this request",
    "unsupported_by_model": "the model server cannot do this",
    "cancelled": "the request was cancelled",
    "engine_unavailable": "the model is not available now: overloaded, starting or restarting; try again",
    "engine_failed": "the model server failed at this request",
    "timeout": "no answer within the time limit",
}

# "image 0: truncated PNG", as image_preprocess and text_tokenize refuse an item; Triton says where that was.
_ITEM = re.compile(r"(?:in ensemble '[^']*', |\[request id: [^]]*\] )*((?:image|text) \d+: \S.*)")
# What an item's refusal never has by itself: a path, an address of a host or in memory, code, several lines.
_INTERNAL = re.compile(
    r"(?:^|[\s'\"(=:])(?:/|\\|[A-Za-z]:[\\/]|~/)\S|\w/\w+/|\w\.(?:py|so|pt|cpp|h)\b"
    r"|\d+\.\d+\.\d+\.\d+|[\w-]:\d{2,5}\b|::|://|0x[0-9a-f]{6}|Traceback|[\x00-\x1f\x7f]"
)
_QUOTED = re.compile(r"it starts with (['\"]).*\1$")  # an item's own first characters may be anything
_MOST_CHARACTERS = 300


def may_be_shown(words: str) -> bool:
    """Whether a caller may see words that are not the gateway's: a few, with no path, address or code in them."""
    return len(words) <= _MOST_CHARACTERS and not _INTERNAL.search(words)


def _words_about_item(reason: str) -> str | None:
    """What a caller may see of an engine's words about an item; None where they say more than that."""
    found = _ITEM.fullmatch(reason)
    if found is None or len(found[1]) > _MOST_CHARACTERS or not may_be_shown(_QUOTED.sub("", found[1])):
        return None
    return found[1]


def item_error(error: TritonClipError, param: str) -> ApiError:
    """The error of one item that the engine could not use; raises what concerns the whole request instead."""
    if not isinstance(error, InputError):
        raise error
    by_server = error.__cause__ if isinstance(error.__cause__, StatusError) else None
    said = error.reason if by_server is None or _words_about_item(by_server.reason) else None
    refusal = ApiError(
        "invalid_image" if error.noun == "image" else "invalid_text",
        said or f"the model server cannot use this {error.noun}",
        param=param,
    )
    refusal.__cause__ = by_server
    return refusal


def translate(error: Exception) -> ApiError:
    """The answer to whatever ended a request, which is its cause where the answer does not say it all."""
    if isinstance(error, ApiError):
        return error
    refusal = ApiError("internal_error", "the gateway failed at this request; its log says why")
    for kind, code in FAILURES:
        if isinstance(error, kind):
            said = _words_about_item(error.reason) if code in _ABOUT_ITEMS and isinstance(error, StatusError) else None
            refusal = ApiError(code, said or MESSAGES[code])
            break
    refusal.__cause__ = error
    return refusal


_ABOUT_ITEMS = frozenset({"refused_by_model"})
