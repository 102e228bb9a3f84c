"""What answers hold: documentation for OpenAPI, in the shapes that other APIs' clients expect.

Routes build their answers as plain dictionaries, which orjson writes fast; the tests hold them against these models.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from tritonclip import Activation


class ErrorBody(BaseModel):
    """One error."""

    message: str
    type: str
    param: str | None = Field(description="the field or the item at fault, such as input[3]")
    code: str


class ErrorResponse(BaseModel):
    """OpenAI's envelope."""

    error: ErrorBody
    detail: str = Field(description="the message, where Voyage's and Jina's clients look for it")


class ItemError(ErrorBody):
    """An item that failed, in the answer to a request with `"partial": true`."""

    index: int


class Usage(BaseModel):
    """What was worked on."""

    prompt_tokens: int = Field(
        description="of all texts, as the model reads them: with start and end, cut where it ends"
    )
    total_tokens: int
    num_images: int


class Embedding(BaseModel):
    """One vector."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | list[int] | str = Field(
        description="numbers, or base64 of them: little-endian float32, or a byte each"
    )


Truncated = Annotated[
    list[int] | None, Field(description="positions of the texts that were longer than the model reads, and cut")
]


ActivationField = Annotated[
    Activation,
    Field(description="what probabilities are: a softmax over the labels or texts, or a sigmoid of each by itself"),
]


class EmbeddingsResponse(BaseModel):
    """OpenAI's list of embeddings."""

    object: Literal["list"]
    model: str
    data: list[Embedding]
    usage: Usage
    truncated: Truncated = None
    errors: list[ItemError] | None = None


class SimilarityResponse(BaseModel):
    """Three matrices: a row for each image, a column for each text; null in the rows of failed images.

    `probabilities` are null where a softmax would be over one text alone, and nothing that it could be likelier than.
    """

    object: Literal["similarity"]
    model: str
    activation: ActivationField
    cosine: list[list[float | None]]
    logits: list[list[float | None]]
    probabilities: list[list[float | None]]
    usage: Usage
    truncated: Truncated = None
    errors: list[ItemError] | None = None


class LabelResponse(BaseModel):
    """A label, and how well it fits."""

    label: str
    probability: float | None = Field(
        description="relative to the other labels, and null where there is none; or, a sigmoid, the label's own"
    )
    cosine: float | None = Field(
        description="relative to nothing, -1 to 1; null where the label set was trained and has none"
    )
    logit: float
    index: int | None = Field(None, description="the label's position among those given, or in its set")


class ImageLabels(BaseModel):
    """The labels of one image, best first; none where nothing reached `threshold` and `min_cosine`."""

    index: int
    labels: list[LabelResponse]


class ClassifyResponse(BaseModel):
    """Labels for each image."""

    object: Literal["list"]
    model: str
    activation: ActivationField
    data: list[ImageLabels]
    usage: Usage
    truncated: Truncated = None
    errors: list[ItemError] | None = None


class Ranked(BaseModel):
    """A document's place."""

    index: int
    relevance_score: float = Field(description="the cosine with the query, -1 to 1")
    document: dict[str, Any] | None = None


class RerankResponse(BaseModel):
    """Documents, best first."""

    id: str
    object: Literal["rerank"]
    model: str
    results: list[Ranked]
    data: list[Ranked] | None = Field(
        None, description="the same without documents, at /v1/rerank, for Voyage's clients"
    )
    meta: dict[str, Any]
    usage: Usage
    truncated: Truncated = None
    query_truncated: bool | None = None
    errors: list[ItemError] | None = None


class ZeroShotLabel(BaseModel):
    """A label and its probability."""

    label: str
    score: float


class LabelSetResponse(BaseModel):
    """A set of labels that is stored with the model."""

    labels: int
    templates: int = Field(description="how many each label was put into; none where it was trained")
    kind: Literal["zero-shot", "trained"]
    threshold: float | None = Field(
        description="of a trained one: the least probability that it proposes as `threshold`, below which an image is "
        "none of these"
    )
    activation: ActivationField


class ModelResponse(BaseModel):
    """A model, in OpenAI's shape and with what else there is to know."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    root: str = Field(description="the model that is deployed, of which the id may be another name")
    variant: str | None
    dimensions: int | None
    resolution: int | None
    precision: str | None
    activation: ActivationField
    fingerprint: str | None
    random_weights: bool | None
    label_sets: dict[str, LabelSetResponse]


class ModelsResponse(BaseModel):
    """The models, by all their names."""

    object: Literal["list"]
    data: list[ModelResponse]


class ModelHealth(BaseModel):
    """Whether one of several models is ready."""

    id: str
    status: str
    detail: str | None = None


class HealthResponse(BaseModel):
    """A health check's answer."""

    status: str
    detail: str | None = None
    models: list[ModelHealth] | None = Field(None, description="each of them, where they have names")
