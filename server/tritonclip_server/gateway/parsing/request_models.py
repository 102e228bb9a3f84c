"""What requests may hold, with an example of each; the source of both validation and the OpenAPI document.

Fields that take texts and images in several shapes are `Any` to pydantic, and described for OpenAPI by hand: `items`
reads them, because it can name the very item at fault. What other APIs' clients send besides, and what asks for nothing
here, is not listed in each of them: `noop_fields` has it.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, WithJsonSchema, field_validator
from pydantic_core import CoreSchema

from tritonclip_server.gateway.content.truncation import Truncation
from tritonclip_server.gateway.errors import ApiError
from tritonclip_server.gateway.parsing.json_body import read_json
from tritonclip_server.gateway.parsing.noop_fields import NOOP_FIELDS
from tritonclip_server.gateway.responses.encodings import Dtype, Format
from tritonclip_server.gateway.responses.error_formats import ErrorFormat

FormFields = Sequence[tuple[str, str | bytes]]

MAX_NAME = 1024  # characters of what only names something
LISTS = frozenset({"input", "messages", "image", "images", "text", "texts", "labels", "documents", "candidate_labels"})
"""Fields that may hold several items; in a form, these may also stand in one field as a JSON array."""

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
        {
            "type": "object",
            "properties": {"type": {"enum": ["image_url", "input_image"]}, "image_url": {}, "detail": _STRING},
            "required": ["image_url"],
            "description": "a part as OpenAI, vLLM and others write it; `content.parts` has them all",
        },
    ]
}
_TOKENS = {"type": "array", "items": {"type": "integer"}, "minItems": 1, "description": "ids of cl100k_base: one text"}


def _one_or_more(item: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [item, {"type": "array", "items": item, "minItems": 1}]}


Image = Annotated[Any, WithJsonSchema(_one_or_more(_IMAGE))]
Text = Annotated[Any, WithJsonSchema(_one_or_more(_STRING))]
Items = Annotated[Any, WithJsonSchema(_one_or_more(_ITEM))]
Item = Annotated[Any, WithJsonSchema(_ITEM)]
Input = Annotated[Any, WithJsonSchema({"anyOf": [*_one_or_more(_ITEM)["anyOf"], *_one_or_more(_TOKENS)["anyOf"]]})]
Messages = Annotated[
    Any,
    WithJsonSchema({"type": "array", "items": {"type": "object"}, "description": "one message with one part"}),
]
Partial = Annotated[bool, Field(description="answer for the good items, and name the bad ones in `errors`")]
Truncate = Annotated[
    Any,
    WithJsonSchema(
        {
            "anyOf": [{"type": "boolean"}, {"enum": ["NONE", "END", "RIGHT", None]}],
            "description": 'false or "NONE": a text of more tokens than the model reads is an error; '
            'true, "END" or left out: it is cut, and named in `truncated`',
        }
    ),
]
HubTruncation = Annotated[
    Any,
    WithJsonSchema(
        {
            "anyOf": [{"type": "boolean"}, {"enum": ["auto", "disabled", "longest_first", "do_not_truncate", None]}],
            "description": "Voyage's and Hugging Face's name for truncate",
        }
    ),
]


TokensRead = Annotated[
    int | None, Field(ge=0, description="no fewer than the model reads, which is what it reads; 0 says nothing")
]


class RequestModel(BaseModel):
    """What all requests have. Unknown fields are refused: a misspelt option must not be ignored in silence."""

    model_config = ConfigDict(extra="forbid")
    error_format: ClassVar[ErrorFormat | None] = (
        None  # of what is refused, where the path does not say whose request it is
    )
    cousins: ClassVar[Mapping[str, str]] = {}
    """What fields are called elsewhere, and here: for the hint in an error."""

    model: str | None = Field(None, description="as /v1/models names it; may be left out", max_length=MAX_NAME)
    user: str | None = Field(None, description="for the caller's own books", max_length=MAX_NAME)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """With the fields that ask for nothing, which are no fields to pydantic."""
        schema = handler(core)
        properties = handler.resolve_ref_schema(schema).setdefault("properties", {})
        for name, field in NOOP_FIELDS.items():
            properties.setdefault(name, field.schema)
        return schema

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> dict[str, Any]:
        """The document that a JSON body stands for: itself, unless an API has several ways to say the same."""
        return document

    @classmethod
    def from_form(cls, fields: FormFields) -> dict[str, Any]:
        """The document that a multipart form stands for: a field that comes twice is a list.

        So is one that holds a JSON array, where several items may stand; it comes twice if it has several.
        """
        values: dict[str, list[Any]] = {}
        lists = set()
        for name, value in fields:
            several = json_array(name, value) if name in LISTS and isinstance(value, str) else None
            values.setdefault(name, []).extend([value] if several is None else several)
            if several is not None:
                lists.add(name)
        return {n: found if n in lists or len(found) > 1 else found[0] for n, found in values.items()}


class TextsRequest(RequestModel):
    """What requests have that may hold texts of any length."""

    truncate: Truncate = None
    truncation: HubTruncation = None
    truncate_prompt_tokens: int | None = Field(
        None, ge=-1, description="vLLM's: -1, or no fewer than the model reads, for `truncate: true`"
    )

    def truncating(self) -> Truncation:
        """What becomes of texts that are too long."""
        return Truncation(self.truncate, self.truncation, self.truncate_prompt_tokens)


class EmbeddingsRequest(TextsRequest):
    """OpenAI's embeddings request, with what NV-CLIP, Jina, infinity and vLLM add to it."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"input": ["a red circle", SAMPLE_IMAGE], "encoding_format": "float"}]}
    )
    cousins = {
        "text": "input", "texts": "input", "image": "input", "images": "input", "sentences": "input", "inputs": "input",
        "documents": "input",
    }  # fmt: skip

    input: Input = None
    messages: Messages = None
    modality: Literal["text", "image"] | None = Field(
        None, description="what bare strings are, whatever they look like"
    )
    encoding_format: Format | None = Field(None, description="numbers of a type, or base64 of them; default: float")
    embedding_type: Format | None = Field(None, description="Jina's name for encoding_format")
    embedding_types: Format | None = Field(None, description="Cohere's name for it, a list of one")
    output_dtype: Dtype | None = Field(
        None, description="Voyage's: what the numbers are, also those in base64, where encoding_format says so"
    )
    dimensions: int | None = Field(None, description="the model's own, or left out")
    output_dimension: int | None = Field(None, description="Voyage's and Cohere's name for dimensions")
    partial: Partial = False
    input_type: str | None = Field(
        None, description="a text has one vector, for queries and passages alike", max_length=MAX_NAME
    )
    task: str | None = Field(None, description="a text has one vector, for every task", max_length=MAX_NAME)

    @field_validator("embedding_type", "embedding_types", mode="before")
    @classmethod
    def _one_type(cls, types: Any) -> Any:
        """Jina and Cohere take a list of types as well, for which their answers have another shape."""
        if not isinstance(types, list):
            return types
        if len(types) != 1:
            raise ValueError("expected one type: send a request for each")
        return types[0]

    @classmethod
    def from_form(cls, fields: FormFields) -> dict[str, Any]:
        """`image`, `text` and `input` are items, in their order."""
        others = [(name, value) for name, value in fields if name not in ("image", "text", "input")]
        items: list[Any] = []
        for name, value in fields:
            if name in ("image", "text", "input"):
                several = json_array(name, value) if isinstance(value, str) else None
                for item in [value] if several is None else several:
                    items.append(item if name == "input" or isinstance(item, bytes) else {name: item})
        return super().from_form(others) | ({"input": items} if items else {})


class SimilarityRequest(TextsRequest):
    """Images and texts to compare, each with each."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"image": SAMPLE_IMAGE, "texts": ["a red square", "a blue circle"]}]}
    )
    cousins = {"labels": "texts", "candidate_labels": "texts", "inputs": "images", "input": "images"}

    image: Image = None
    images: Image = None
    text: Text = None
    texts: Text = None
    partial: Partial = False


class ClassifyRequest(TextsRequest):
    """Images, and the labels to choose from: given here, or a set that is stored with the model."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"image": SAMPLE_IMAGE, "labels": ["red", "blue"], "top_k": 1}]}
    )
    cousins = {
        "candidate_labels": "labels", "texts": "labels", "hypothesis_template": "template", "inputs": "images",
        "top_n": "top_k",
    }  # fmt: skip

    image: Image = None
    images: Image = None
    labels: Text = None
    label_set: str | None = Field(None, description="as /v1/models names it", max_length=MAX_NAME)
    template: str | None = Field(None, description="with {} for the label", examples=["a photo of a {}"])
    top_k: int | None = Field(None, ge=1)
    threshold: float | None = Field(
        None, ge=0, le=1, description="labels of lower probability, a softmax or a sigmoid, are left out"
    )
    min_cosine: float | None = Field(
        None, ge=-1, le=1, description="labels of a lower cosine are left out; a trained label set has none"
    )
    partial: Partial = False

    @field_validator("template")
    @classmethod
    def _has_place(cls, template: str | None) -> str | None:
        return _with_place(template)


class RerankRequest(TextsRequest):
    """Cohere's and Jina's rerank request; the query and each document may be a text or an image."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"query": "a red square", "documents": [{"image": SAMPLE_IMAGE}, "a blue circle"], "top_n": 1}]
        }
    )
    cousins = {"texts": "documents", "passages": "documents", "queries": "query", "return_text": "return_documents"}

    query: Item = None
    documents: Items = None
    top_n: int | None = Field(None, ge=1)
    top_k: int | None = Field(None, ge=1, description="Voyage's name for top_n")
    return_documents: bool | None = None
    partial: Partial = False
    max_tokens_per_doc: TokensRead = None
    max_tokens_per_query: TokensRead = None
    max_doc_length: TokensRead = None
    max_query_length: TokensRead = None
    max_chunks_per_doc: int | None = Field(None, ge=1, description="a document is one chunk")


class ZeroShotParameters(BaseModel):
    """Hugging Face's parameters of zero-shot image classification."""

    model_config = ConfigDict(extra="forbid")

    candidate_labels: Text
    hypothesis_template: str | None = Field(None, description="with {} for the label")
    multi_label: bool | None = Field(
        None, description="whether labels are independent, which they are where the model's `activation` is a sigmoid"
    )

    @field_validator("hypothesis_template")
    @classmethod
    def _has_place(cls, template: str | None) -> str | None:
        return _with_place(template)


class HubOptions(BaseModel):
    """What Hugging Face's clients ask of its own servers: here a model is loaded, and an answer computed."""

    model_config = ConfigDict(extra="forbid")

    use_cache: bool | None = None
    use_gpu: bool | None = None
    wait_for_model: bool | None = None


class ZeroShotRequest(RequestModel):
    """Hugging Face's zero-shot image classification."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"inputs": SAMPLE_IMAGE, "parameters": {"candidate_labels": ["red", "blue"]}}]}
    )

    inputs: Annotated[Any, WithJsonSchema(_IMAGE)]
    parameters: ZeroShotParameters
    options: HubOptions | None = None

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> dict[str, Any]:
        """The image may stand under `image` or in an object under `inputs`, the parameters beside it.

        So clients of other years and servers send them.
        """
        inputs = document.get("inputs")
        if isinstance(inputs, dict) and (inputs.keys() & {"image", *ZeroShotParameters.model_fields}):
            document = {**{name: value for name, value in document.items() if name != "inputs"}, **inputs}
        if "image" in document and "inputs" not in document:
            document = {"inputs" if name == "image" else name: value for name, value in document.items()}
        names = ZeroShotParameters.model_fields.keys() & document.keys()
        parameters = document.get("parameters", {})
        if not names or not isinstance(parameters, dict) or names & parameters.keys():
            return document
        beside = {name: document[name] for name in names}
        rest = {name: value for name, value in document.items() if name not in names}
        return rest | {"parameters": parameters | beside}

    @classmethod
    def from_form(cls, fields: FormFields) -> dict[str, Any]:
        """As in JSON, but that the parameters always stand beside the image."""
        return cls.from_json({"parameters": {}} | super().from_form(fields))


def json_array(name: str, value: str) -> list[Any] | None:
    """The items of a JSON array in a form's field; None for a text, which may have brackets too: "[MASK]".

    ApiError where an array was meant, by what comes behind its bracket, and cannot be read.
    """
    value = value.strip()
    if not (value.startswith("[") and value.endswith("]")):
        return None
    try:
        found = read_json(value.encode("utf-8", "surrogatepass"))
    except ApiError as error:
        if error.code == "invalid_json" and value[1:].lstrip()[:1] not in ('"', "[", "{"):
            return None
        raise ApiError(error.code, error.reason.replace("the body", "the array", 1), param=name) from None
    return found if isinstance(found, list) else None


def _with_place(template: str | None) -> str | None:
    if template is not None and "{}" not in template:
        raise ValueError("a template needs {} where the label goes")
    return template
