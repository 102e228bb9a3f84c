"""Every way in which a request can fail: one table, one envelope.

    refused here            raise ApiError(code, …)
    TritonClipError         from the engine; `translate` finds its code in FAILURES
    anything else           "internal_error"; what it was stands in the log alone

The code decides the HTTP status (STATUSES), and the status decides OpenAI's `type`. A program sees OpenAI's envelope:
`{"error": {"message", "type", "param", "code"}}`, where `param` names the field or the item: `input[3]`.
"""

import logging
from collections.abc import Mapping

from tritonclip import (
    ConnectError,
    DeadlineExceededError,
    InputError,
    InvalidArgumentError,
    RequestCancelledError,
    ResourceExhaustedError,
    TritonClipError,
    UnavailableError,
    UnsupportedError,
)

log = logging.getLogger("gateway")

STATUSES: Mapping[str, int] = {
    # What the request holds.
    "invalid_json": 400,
    "invalid_form": 400,
    "invalid_encoding": 400,
    "invalid_header": 400,
    "missing_field": 400,
    "unknown_field": 400,
    "invalid_value": 400,
    "token_arrays_unsupported": 400,
    "unsupported_dimensions": 400,
    "unknown_label_set": 400,
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
    "not_found": 404,
    "method_not_allowed": 405,
    "body_too_large": 413,
    "unsupported_media_type": 415,
    # Who asks, and how often.
    "invalid_api_key": 401,
    "rate_limit_exceeded": 429,
    "overloaded": 429,
    "cancelled": 499,  # nobody waits for this answer; the status is for the metrics
    # What failed behind the gateway.
    "internal_error": 500,
    "unsupported_by_model": 501,
    "engine_failed": 502,
    "engine_unavailable": 503,
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

RETRY_SECONDS = 1  # what Retry-After says where nothing better is known


class ApiError(Exception):
    """A request that is not answered as it was meant, with all that its sender is told."""

    def __init__(self, code: str, message: str, *, param: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
        self.status = STATUSES[code]
        self.retry_after = RETRY_SECONDS if retry_after is None and self.status in (429, 503) else retry_after

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


class ClientGone(Exception):
    """The caller hung up: its work ends, and there is nobody to answer."""


def item_error(error: TritonClipError, param: str) -> ApiError:
    """The error of one item that the engine could not use; raises what concerns the whole request instead."""
    if not isinstance(error, InputError):
        raise error
    return ApiError("invalid_image" if error.noun == "image" else "invalid_text", error.reason, param=param)


def translate(error: Exception) -> ApiError:
    """The answer to whatever ended a request."""
    if isinstance(error, ApiError):
        return error
    for kind, code in FAILURES:
        if isinstance(error, kind):
            if STATUSES[code] >= 500:
                log.warning("%s: %s", code, error)
            return ApiError(code, MESSAGES.get(code) or str(error))
    log.error("unforeseen error", exc_info=error)
    return ApiError("internal_error", "the gateway failed at this request; its log says why")


# An engine's own words name addresses and models, which are the operator's business.
MESSAGES: Mapping[str, str] = {
    "engine_unavailable": "the model is not available now: overloaded, starting or restarting; try again",
    "engine_failed": "the model server failed at this request",
    "timeout": "no answer within the time limit",
}
