"""Documents to the `request_models`, and what is wrong with one in our own words.

    document ─> fields that ask for nothing ─> unknown names ─> pydantic ─> request

pydantic's words are for programmers of Python: "Extra inputs are not permitted" names no remedy.
"""

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from tritonclip_server.gateway.errors import ApiError, in_words
from tritonclip_server.gateway.parsing.noop_fields import NOOP_FIELDS, without_noops
from tritonclip_server.gateway.parsing.request_models import RequestModel

R = TypeVar("R", bound=RequestModel)

_SHOWN_CHARACTERS = 64
_CLOSE = 0.6  # of difflib's ratio: its own default, with which "truncate" is found for "truncat", and not for "cut"

# What was expected, by pydantic's name for the error.
_EXPECTED = {
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a number",
    "string_type": "a string",
    "list_type": "a list",
    "model_type": "an object",
    "model_attributes_type": "an object",
}


def validate(model: type[R], document: Mapping[str, Any], *, strict: bool) -> R:
    """Check a document against a model; form fields, which are all strings, are not checked strictly."""
    document = _known_fields(model, document, strict=strict)
    try:
        return model.model_validate(document, strict=strict)
    except ValidationError as invalid:
        error = invalid.errors(include_url=False)[0]
        code = "missing_field" if error["type"] == "missing" else "invalid_value"
        raise ApiError(code, reason_of(error), param=_param(error["loc"]) or None) from None


def reason_of(error: ErrorDetails) -> str:
    """What is wrong with a value, from pydantic's description of it."""
    kind, value, said = error["type"], error["input"], error.get("ctx", {})
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}, got {in_words(value)}"
    match kind:
        case "missing":
            return "must be given"
        case "literal_error":
            return f"expected {said['expected'].replace(chr(39), chr(34))}, got {in_words(value)}"
        case "greater_than_equal":
            return f"expected at least {said['ge']:g}, got {in_words(value)}"
        case "less_than_equal":
            return f"expected at most {said['le']:g}, got {in_words(value)}"
        case "string_too_long":
            return f"{len(value)} characters, more than the limit of {said['max_length']}"
        case "string_unicode":
            return "half of a surrogate pair: it is no Unicode text"
        case "value_error":
            return str(said["error"])
    return f"{in_words(value)} cannot be used here"


def _known_fields(
    model: type[BaseModel], document: Mapping[str, Any], *, strict: bool, within: str = ""
) -> dict[str, Any]:
    """The fields that a model knows, of a document that has no others but such as ask for nothing.

    Raises for the first: pydantic would describe every one of a hundred thousand.
    """
    fields = model.model_fields
    kept = without_noops(document, fields, as_text=not strict)
    for name, value in kept.items():
        if name not in fields:
            shown = name[:_SHOWN_CHARACTERS].encode("utf-8", "backslashreplace").decode()
            raise ApiError("unknown_field", f"no such option here{_suggestion(name, model)}", param=f"{within}{shown}")
        if isinstance(value, dict) and (nested := _model_in(fields[name].annotation)):
            kept[name] = _known_fields(nested, value, strict=strict, within=f"{name}.")
    return kept


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that a field holds, or may hold."""
    kinds = (annotation, *get_args(annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _suggestion(name: str, model: type[BaseModel]) -> str:
    """Which option may have been meant, of those that there are and those that ask for nothing."""
    cousins: Mapping[str, str] = getattr(model, "cousins", {})
    names = [*model.model_fields, *NOOP_FIELDS, *cousins]
    found = difflib.get_close_matches(name[:_SHOWN_CHARACTERS].lower(), names, n=1, cutoff=_CLOSE)
    return f"; did you mean {cousins.get(found[0], found[0])}?" if found else ": /openapi.json lists what there is"


def _param(location: tuple[int | str, ...]) -> str:
    """`("parameters", "candidate_labels", 3)` as `parameters.candidate_labels[3]`."""
    param = ""
    for step in location:
        param += f"[{step}]" if isinstance(step, int) else f".{step}" if param else step
    return param
