"""What becomes of a text that is longer than the model reads: cut at its end and named, or refused; as the caller says.

Each API has its own word for it: `false` and "NONE" refuse, `true`, "END" and "RIGHT" cut.
"""

from collections.abc import Sequence
from typing import Any

from gateway.errors import ApiError
from tritonclip import Manifest

_CUT = ("true", "end", "right")
_REFUSE = ("false", "none")


def may_cut(truncate: Any, manifest: Manifest) -> bool:
    """Whether texts may be cut, by what a request says of it; ApiError where the caller wants what cannot be done."""
    said = "true" if truncate is None else str(truncate).lower() if isinstance(truncate, str | bool) else ""
    if said in _CUT:
        return True
    if said not in _REFUSE:
        message = "texts can be cut at their end (true, END, RIGHT) or refused (false, NONE), nothing else"
        raise ApiError("invalid_value", f"truncate: {message}", param="truncate")
    if manifest.context_length is None:
        message = "truncate: the model does not say how many tokens it reads, so a longer text cannot be told"
        raise ApiError("invalid_value", message, param="truncate")
    return False


def check_most_tokens(most: int | None, manifest: Manifest, param: str) -> None:
    """Cohere's `max_tokens_per_doc` and `max_tokens`: the model reads what it reads, and no less."""
    if most is not None and most < (manifest.context_length or most):
        message = f"the model reads {manifest.context_length} tokens of a text, and cannot read fewer"
        raise ApiError("invalid_value", message, param=param)


def too_long(param: str, tokens: int, manifest: Manifest) -> ApiError:
    """The error of a text that may not be cut."""
    message = (
        f"{param}: {tokens} tokens, more than the {manifest.context_length} that the model reads: "
        "shorten it, or allow truncation"
    )
    return ApiError("text_too_long", message, param=param)


def truncated_field(truncated: Sequence[int], first: int = 0) -> dict[str, Any]:
    """The `truncated` of an answer: which texts were cut, counted from a position; nothing where none was."""
    positions = [position - first for position in truncated if position >= first]
    return {"truncated": positions} if positions else {}
