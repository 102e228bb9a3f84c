"""Fields that other APIs' programs send whatever they want, and the values with which they want nothing.

A program that says `"stream": false` asks for what is done anyway; one that says `"stream": true` asks for what is not,
and must not get an answer that looks as if it were. So each field has the values that change nothing, and the reason
that is given for any other. Fields that a request has itself are not looked at here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from tritonclip_server.gateway.errors import ApiError


@dataclass(frozen=True)
class NoopField:
    """The values of a field that ask for nothing, None among them, and what is so whatever a caller asks."""

    values: tuple[Any, ...]
    reason: str

    @property
    def schema(self) -> dict[str, Any]:
        """For OpenAPI."""
        return {"enum": [None, *self.values], "description": f"changes nothing: {self.reason}"}

    def includes(self, value: Any) -> bool:
        """Whether a value is one of them; 0 is not false, and 1 not true."""
        return value is None or any(type(value) is type(known) and value == known for known in self.values)


_ONE_VECTOR = "an item has one vector, of nothing but itself"
_NO_PROMPT = "texts are embedded as they are: write a prompt into them"
_NO_TEMPLATE = "a message is one text or one image, which no chat template surrounds"
_COSINES = "scores are cosines, with no activation, and probabilities have the model's own"
_CUT_AT_END = "texts are cut at their end, if at all"
_LENGTH_1 = "vectors always have length 1"
_FLOATS = "vectors are of 32-bit floats"

NOOP_FIELDS: Mapping[str, NoopField] = {
    # OpenAI and whatever forwards its requests
    "stream": NoopField((False,), "an answer comes as a whole"),
    # vLLM
    "priority": NoopField((0,), "requests are served in the order in which they come"),
    "add_special_tokens": NoopField((False, True), "the model's own start and end are always around a text"),
    "add_generation_prompt": NoopField((False,), _NO_TEMPLATE),
    "continue_final_message": NoopField((False,), _NO_TEMPLATE),
    "echo": NoopField((False,), _NO_TEMPLATE),
    "chat_template": NoopField((), _NO_TEMPLATE),
    "chat_template_kwargs": NoopField(({},), _NO_TEMPLATE),
    "mm_processor_kwargs": NoopField(({},), "images are read in the model's own way"),
    "media_io_kwargs": NoopField(({},), "images are read in the model's own way"),
    "cache_salt": NoopField((), "what is cached is each text's vector, the same for all"),
    "embed_dtype": NoopField(("float32", "float"), _FLOATS),
    "endianness": NoopField(("native", "little"), "bytes are little-endian"),
    "use_activation": NoopField((False,), _COSINES),
    "activation": NoopField((False,), _COSINES),
    "softmax": NoopField((False,), _COSINES),
    "truncation_side": NoopField(("right",), _CUT_AT_END),
    # Text Embeddings Inference, Sentence Transformers, infinity
    "truncation_direction": NoopField(("right", "Right"), _CUT_AT_END),
    "normalize": NoopField((True,), _LENGTH_1),
    "normalize_embeddings": NoopField((True,), _LENGTH_1),
    "prompt_name": NoopField(("",), _NO_PROMPT),
    "prompt": NoopField(("",), _NO_PROMPT),
    "instruction": NoopField(("",), _NO_PROMPT),
    "raw_scores": NoopField((False, True), _COSINES),
    # Jina
    "normalized": NoopField((True,), _LENGTH_1),
    "late_chunking": NoopField((False,), _ONE_VECTOR),
    "return_multivector": NoopField((False,), _ONE_VECTOR),
    "return_embeddings": NoopField((False,), "/v1/embeddings has the vectors"),
    "encoding_type": NoopField(("float",), _FLOATS),
    # Cohere, Voyage
    "output_dtype": NoopField(("float",), _FLOATS),
    "output_dimension": NoopField((), "vectors have the model's own width"),
    "rank_fields": NoopField(
        ([], ["text"], ["image"], ["text", "image"], ["image", "text"]), "a document is ranked by its text or its image"
    ),
    "overlap_tokens": NoopField((0,), "a document is one chunk"),
}


def without_noops(document: Mapping[str, Any], known: Mapping[str, Any], *, as_text: bool) -> dict[str, Any]:
    """A document without the fields that ask for nothing; ApiError where one of them asks for something.

    `known` are the fields that its request has itself. Where `as_text`, values are strings, as in forms.
    """
    kept = {}
    for name, value in document.items():
        noop = NOOP_FIELDS.get(name) if name not in known else None
        if noop is None:
            kept[name] = value
        elif not noop.includes(_read(value) if as_text else value):
            raise ApiError("invalid_value", f"{noop.reason}; leave this out", param=name)
    return kept


def _read(value: Any) -> Any:
    """The value that a form's field means: what JSON reads in it, else the string itself."""
    try:
        return orjson.loads(value) if isinstance(value, str | bytes) else value
    except orjson.JSONDecodeError:
        return value
