"""What a request's labels are: a list of different ones, and the sentences that a template makes of them.

A list that came as one string would be one label of certain probability. Where an API's own server splits such a
string, so does this one (Hugging Face's, at commas); where nobody defines it, it is refused with the remedy.
"""

import re
from collections.abc import Sequence
from typing import Any

from tritonclip import Manifest
from tritonclip.labels import equal_rows, first_duplicate
from tritonclip.protocol import FloatArray
from tritonclip_server.gateway.content.items import TextItem, check_counts, good, refuse_json, text_item, text_items
from tritonclip_server.gateway.errors import ApiError
from tritonclip_server.gateway.settings import Limits

# Commas, semicolons and bars of all writings, bullets, and what parts lines.
_SEPARATOR = re.compile(
    "[,;|\n\r\t\v\f\x85\u2028\u2029\u2022\u00a6\u060c\u061b\u055d\u3001\uff0c\uff1b\uff5c\uff64\ufe50\ufe51\ufe54]"
)
_SHOWN_CHARACTERS = 40


def labels_of(value: Any, field: str, limits: Limits, manifest: Manifest) -> list[TextItem]:
    """The labels of a field: a list of them, or one string that can only be one label."""
    if isinstance(value, str) and (_SEPARATOR.search(value[: limits.text_characters].strip()) or _in_brackets(value)):
        message = 'one string that may be a list: send a list, ["a", "b"], or a list of one for a label as it is'
        raise ApiError("invalid_value", message, param=field)
    return _different(text_items(value, field, limits), manifest)


def candidate_labels_of(value: Any, field: str, limits: Limits, manifest: Manifest) -> list[TextItem]:
    """Hugging Face's labels: a list, or one string with commas between them. One alone would have nothing beside it."""
    if isinstance(value, str) and not _in_brackets(value):
        check_counts(0, value.count(",") + 1, field, limits)
        value = [label.strip() for label in value.split(",") if label.strip()]
    labels = _different(text_items(value, field, limits), manifest)
    if not manifest.compares_labels(len(labels)):
        message = "give at least two: a score is a probability among the candidate labels, and of one it is always 1"
        raise ApiError("invalid_value", message, param=field)
    return labels


def prompts_of(labels: Sequence[TextItem], template: str, field: str, limits: Limits) -> list[TextItem]:
    """The template with each label where it has `{}`; the field is the template's. ApiError where one is too long.

    How long they will be is known before they are made: a template of many places would make gigabytes.
    """
    refuse_json(template, field, limits, "a template is one sentence")
    text_items(template, field, limits)
    places = template.count("{}")
    for label in labels:
        characters = len(template) + places * (len(label.text) - len("{}"))
        if characters > limits.text_characters:
            message = f"{characters} characters in the template, more than the limit of {limits.text_characters}"
            raise ApiError("text_too_long", message, param=label.param)
    return good([text_item(template.replace("{}", label.text), label.param, limits) for label in labels])


def _different(labels: list[TextItem], manifest: Manifest) -> list[TextItem]:
    """The labels; ApiError where two are the same to the model, and would share one probability."""
    if manifest.activation == "softmax" and (found := first_duplicate([label.text for label in labels], manifest)):
        raise _duplicate(labels[found[1]], labels[found[0]])
    return labels


def refuse_equal(labels: Sequence[TextItem], features: FloatArray, truncated: Sequence[int]) -> None:
    """ApiError where two labels turn out to be the same to the model, by their features [N, D].

    Its tokenizer repairs texts: HTML entities, forms of Unicode, invisible characters. Labels that were both cut are
    told apart by what the model did not read, and the answer lists them.
    """
    for first, second in equal_rows(features):
        if not (first in truncated and second in truncated):
            raise _duplicate(labels[second], labels[first])


def _duplicate(label: TextItem, other: TextItem) -> ApiError:
    shown = repr(label.text[:_SHOWN_CHARACTERS])
    message = f"the same as {other.param} to the model: {shown}"
    return ApiError("duplicate_label", message, param=label.param)


def _in_brackets(value: str) -> bool:
    """Whether a string is written like a list, in JSON or another notation."""
    value = value.strip()
    return value.startswith("[") and value.endswith("]")
