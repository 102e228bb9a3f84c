"""What becomes of a text that is longer than the model reads: cut at its end and named, or refused; as the caller says.

Each API has its own words for it: `truncate` of Cohere, NIM, Jina and TEI, `truncation` of Voyage and Hugging Face,
`truncate_prompt_tokens` of vLLM.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tritonclip import Manifest
from tritonclip_server.gateway.errors import ApiError, in_words

_CUT = ("true", "end", "right", "auto", "longest_first", "only_first")
_REFUSE = ("false", "none", "disabled", "do_not_truncate")


@dataclass(frozen=True)
class Truncation:
    """What a request says of it, in any of those ways; None where it says nothing."""

    truncate: Any = None
    truncation: Any = None
    truncate_prompt_tokens: int | None = None


def may_cut(asked: Any, manifest: Manifest) -> bool:
    """Whether texts may be cut, by what a request says of it: a Truncation, or the value of a `truncate`.

    They may where it says nothing. ApiError where the caller wants what cannot be done.
    """
    asked = asked if isinstance(asked, Truncation) else Truncation(asked)
    said = {
        name: _may(value, name)
        for name, value in (("truncate", asked.truncate), ("truncation", asked.truncation))
        if value is not None
    }
    if asked.truncate_prompt_tokens is not None:
        _check_tokens(asked.truncate_prompt_tokens, manifest)
        said["truncate_prompt_tokens"] = True
    if len(set(said.values())) > 1:
        first, *_, last = said
        raise ApiError("invalid_value", f"says otherwise than {first}", param=last)
    refused = [name for name, may in said.items() if not may]
    if refused and manifest.context_length is None:
        message = "the model does not say how many tokens it reads, so a longer text cannot be told"
        raise ApiError("invalid_value", message, param=refused[0])
    return not refused


def _may(value: Any, name: str) -> bool:
    said = str(value).lower() if isinstance(value, str | bool) else ""
    if said not in _CUT + _REFUSE:
        message = "texts can be cut at their end (true, END, RIGHT) or refused (false, NONE), nothing else"
        raise ApiError("invalid_value", f"{message}; got {in_words(value)}", param=name)
    return said in _CUT


def _check_tokens(most: int, manifest: Manifest) -> None:
    """vLLM's count of tokens to cut after, -1 for what the model reads: here texts are cut there, and nowhere else."""
    reads = manifest.context_length
    if most != -1 and (reads is None or most < reads):
        message = f"texts are cut after the {reads or 'many'} tokens that the model reads, no sooner: leave this out"
        raise ApiError("invalid_value", message, param="truncate_prompt_tokens")


def check_most_tokens(most: int | None, manifest: Manifest, param: str) -> None:
    """Cohere's, Jina's and vLLM's limits of tokens: the model reads what it reads, and no less. 0 is no limit."""
    if most and most < (manifest.context_length or most):
        message = f"the model reads {manifest.context_length} tokens of a text, and cannot read fewer"
        raise ApiError("invalid_value", message, param=param)


def too_long(param: str, tokens: int, manifest: Manifest) -> ApiError:
    """The error of a text that may not be cut."""
    message = (
        f"{tokens} tokens, more than the {manifest.context_length} that the model reads: "
        "shorten it, or allow truncation"
    )
    return ApiError("text_too_long", message, param=param)


def truncated_field(truncated: Sequence[int], first: int = 0) -> dict[str, Any]:
    """The `truncated` of an answer: which texts were cut, counted from a position; nothing where none was."""
    positions = [position - first for position in truncated if position >= first]
    return {"truncated": positions} if positions else {}
