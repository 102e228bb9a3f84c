"""What requests may hold, with an example of each; the source of both validation and the OpenAPI document.

Fields that take texts and images in several shapes are `Any` to pydantic, and described for OpenAPI by hand: `intake`
reads them, because it can name the very item at fault. Fields that other APIs' clients send, and that mean nothing
for a CLIP model, are accepted and have no effect.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, field_validator

FormFields = Sequence[tuple[str, str | bytes]]

SAMPLE_IMAGE = (  # 8 x 8 red pixels
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAgAAAAIAQMAAAD+wSzIAAAAA1BMVEXcHh4Np/MyAAAAC0lEQVR42mNgQAUA"
    "ABAAAaoZ+IIAAAAASUVORK5CYII="
)

_STRING: dict[str, Any] = {"type": "string"}
_IMAGE = {"type": "string", "description": "a data URL, base64, or (where the gateway allows it) an http(s) URL"}
_ITEM = {
    "anyOf": [
        {"type": "string", "description": "a text, or an image as data URL"},
        {"type": "object", "properties": {"text": _STRING}, "required": ["text"], "additionalProperties": False},
        {"type": "object", "properties": {"image": _IMAGE}, "required": ["image"], "additionalProperties": False},
    ]
}


def _one_or_more(item: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [item, {"type": "array", "items": item, "minItems": 1}]}


Image = Annotated[Any, WithJsonSchema(_one_or_more(_IMAGE))]
Text = Annotated[Any, WithJsonSchema(_one_or_more(_STRING))]
Items = Annotated[Any, WithJsonSchema(_one_or_more(_ITEM))]
Item = Annotated[Any, WithJsonSchema(_ITEM)]
Messages = Annotated[
    Any,
    WithJsonSchema({"type": "array", "items": {"type": "object"}, "description": "one message with one part"}),
]
Partial = Annotated[bool, Field(description="answer for the good items, and name the bad ones in `errors`")]


class RequestModel(BaseModel):
    """What all requests have. Unknown fields are refused: a misspelt option must not be ignored in silence."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(None, description="as /v1/models names it; may be left out")
    user: str | None = Field(None, description="no effect")

    @classmethod
    def from_form(cls, fields: FormFields) -> dict[str, Any]:
        """The document that a multipart form stands for: a field that comes twice is a list."""
        document: dict[str, Any] = {}
        for name, value in fields:
            if name not in document:
                document[name] = value
            elif isinstance(document[name], list):
                document[name].append(value)
            else:
                document[name] = [document[name], value]
        return document


class EmbeddingsRequest(RequestModel):
    """OpenAI's embeddings request, with what NV-CLIP, Jina, infinity and vLLM add to it."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"input": ["a red circle", SAMPLE_IMAGE], "encoding_format": "float"}]}
    )

    input: Items = None
    messages: Messages = None
    modality: Literal["text", "image"] | None = Field(None, description="what bare strings are")
    encoding_format: Literal["float", "base64"] | None = None
    embedding_type: Literal["float", "base64"] | None = Field(None, description="Jina's name for encoding_format")
    dimensions: int | None = Field(None, description="the model's own, or left out")
    partial: Partial = False
    input_type: str | None = Field(None, description="no effect")
    task: str | None = Field(None, description="no effect")
    truncate: str | bool | None = Field(None, description="no effect: texts are always cut where the model ends")
    normalized: Literal[True] | None = Field(None, description="vectors always have length 1")

    @classmethod
    def from_form(cls, fields: FormFields) -> dict[str, Any]:
        """`image`, `text` and `input` are items, in their order."""
        others = [(name, value) for name, value in fields if name not in ("image", "text", "input")]
        items: list[Any] = []
        for name, value in fields:
            if name == "input" or (name == "image" and isinstance(value, bytes)):
                items.append(value)
            elif name in ("image", "text"):
                items.append({name: value})
        return super().from_form(others) | ({"input": items} if items else {})


class SimilarityRequest(RequestModel):
    """Images and texts to compare, each with each."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"image": SAMPLE_IMAGE, "texts": ["a red square", "a blue circle"]}]}
    )

    image: Image = None
    images: Image = None
    text: Text = None
    texts: Text = None
    partial: Partial = False


class ClassifyRequest(RequestModel):
    """Images, and the labels to choose from: given here, or a set that is stored with the model."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"image": SAMPLE_IMAGE, "labels": ["red", "blue"], "top_k": 1}]}
    )

    image: Image = None
    images: Image = None
    labels: Text = None
    label_set: str | None = Field(None, description="as /v1/models names it")
    template: str | None = Field(None, description="with {} for the label", examples=["a photo of a {}"])
    top_k: int | None = Field(None, ge=1)
    threshold: float | None = Field(None, ge=0, le=1, description="labels of lower probability are left out")
    partial: Partial = False

    @field_validator("template")
    @classmethod
    def _has_place(cls, template: str | None) -> str | None:
        return _with_place(template)


class RerankRequest(RequestModel):
    """Cohere's and Jina's rerank request; the query and each document may be a text or an image."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"query": "a red square", "documents": [{"image": SAMPLE_IMAGE}, "a blue circle"], "top_n": 1}]
        }
    )

    query: Item = None
    documents: Items = None
    top_n: int | None = Field(None, ge=1)
    return_documents: bool | None = None
    partial: Partial = False
    max_tokens_per_doc: int | None = Field(None, description="no effect")
    max_chunks_per_doc: int | None = Field(None, description="no effect")


class ZeroShotParameters(BaseModel):
    """Hugging Face's parameters of zero-shot image classification."""

    model_config = ConfigDict(extra="forbid")

    candidate_labels: Text
    hypothesis_template: str | None = Field(None, description="with {} for the label")

    @field_validator("hypothesis_template")
    @classmethod
    def _has_place(cls, template: str | None) -> str | None:
        return _with_place(template)


class ZeroShotRequest(RequestModel):
    """Hugging Face's zero-shot image classification."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"inputs": SAMPLE_IMAGE, "parameters": {"candidate_labels": ["red", "blue"]}}]}
    )

    inputs: Annotated[Any, WithJsonSchema(_IMAGE)]
    parameters: ZeroShotParameters

    @classmethod
    def from_form(cls, fields: FormFields) -> dict[str, Any]:
        """`image` or `inputs` is the image; what belongs to the parameters stands beside it."""
        document = super().from_form([("inputs" if name == "image" else name, value) for name, value in fields])
        names = [name for name in ZeroShotParameters.model_fields if name in document]
        return document | {"parameters": {name: document.pop(name) for name in names}}


def _with_place(template: str | None) -> str | None:
    if template is not None and "{}" not in template:
        raise ValueError("a template needs {} where the label goes")
    return template
