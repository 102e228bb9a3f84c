"""Texts that arrive as token ids: OpenAI's own clients may send those, LangChain's does unless it is told not to.

    ids of cl100k_base ──its table of bytes──> UTF-8 ──> the text, which is read like any other

The ids are OpenAI's for every model whose name a client does not know, and mean nothing to CLIP. `tiktoken` turns them
back where it is installed (requirements/openai-tokens.txt). It would fetch its table when it is first used; ours lies
in `gateway/data`, and is held against the digest that tiktoken itself demands.
"""

import functools
import gzip
import hashlib
from base64 import b64decode
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from tritonclip_server.gateway.errors import ApiError, in_words

if TYPE_CHECKING:
    from tiktoken import Encoding

VOCABULARY = 100_256  # ids of cl100k_base that are parts of texts; those above are its special tokens
TABLE = files("tritonclip_server.gateway") / "data" / "cl100k_base.tiktoken.gz"
DIGEST = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"
"""Its SHA-256, as tiktoken_ext/openai_public.py states it."""
_REMEDIES = (
    "token ids need tiktoken beside this gateway (pip install -r requirements/openai-tokens.txt): install it, or have "
    "texts sent as they are (LangChain: check_embedding_ctx_length=False)"
)


def is_token_array(value: Any) -> bool:
    """Whether a value is a list that is meant for token ids: it begins with a number."""
    return isinstance(value, list) and bool(value) and type(value[0]) in (int, float)


def token_count(value: Any) -> int:
    """How many token ids a field has, one list of them or a list of lists."""
    if is_token_array(value):
        return len(value)
    return sum(len(ids) for ids in value if isinstance(ids, list)) if isinstance(value, list) else 0


def text_of(ids: list[Any], param: str) -> str:
    """The text of token ids; ApiError where they are none, or not those of a text."""
    encoding = cl100k_base(param)
    if not ids:
        raise ApiError("invalid_tokens", "a list of no tokens", param=param)
    for index, token in enumerate(ids):
        if type(token) is not int or not 0 <= token < VOCABULARY:
            message = f"token {index} is {in_words(token)}: the ids of cl100k_base are 0 to {VOCABULARY - 1}"
            raise ApiError("invalid_tokens", message, param=param)
    try:
        return encoding.decode_bytes(ids).decode()
    except UnicodeDecodeError:
        raise ApiError("invalid_tokens", "the tokens end within a character, or begin there", param=param) from None


def cl100k_base(param: str) -> "Encoding":
    """The encoding; ApiError with the remedies where it cannot be had."""
    encoding = load_encoding()
    if encoding is None:
        raise ApiError("token_arrays_unsupported", _REMEDIES, param=param)
    return encoding


@functools.cache
def load_encoding() -> "Encoding | None":
    """The encoding, made once, in 0.2 s, for 0.07 s of which all else waits; None where something is missing."""
    try:
        from tiktoken import Encoding

        table = gzip.decompress(TABLE.read_bytes())
    except (ImportError, OSError):
        return None
    if hashlib.sha256(table).hexdigest() != DIGEST:
        return None
    ranks = {b64decode(token): int(rank) for token, rank in map(bytes.split, table.splitlines())}
    return Encoding("cl100k_base", pat_str=r"\p{L}+", mergeable_ranks=ranks, special_tokens={})
