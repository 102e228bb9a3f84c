"""What a search may hold, with an example; the source of both validation and the OpenAPI document."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, field_validator

from tritonclip_server.gateway.parsing.request_models import MAX_NAME, Image, Text, TextsRequest

MOST_RESULTS = 100
DEFAULT_RESULTS = 20
MOST_WEIGHT = 1000.0

Vector = Annotated[
    Any,
    WithJsonSchema(
        {
            "anyOf": [{"type": "array", "items": {"type": "number"}, "minItems": 1}, {"type": "null"}],
            "description": "of the model that the index is of, as /v1/embeddings writes it; its length does not matter",
        }
    ),
]
Included = Literal["metadata"]


class WeightsRequest(BaseModel):
    """How much each part of a query counts."""

    model_config = ConfigDict(extra="forbid")

    text: float = Field(1.0, ge=0, le=MOST_WEIGHT)
    image: float = Field(1.0, ge=0, le=MOST_WEIGHT)
    minus: float = Field(0.5, ge=0, le=MOST_WEIGHT)


class SearchRequest(TextsRequest):
    """What to look for in an index: a text, an image, both, a vector, or what is like one of its rows."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"text": "a red square", "top_k": 3}]})
    cousins: ClassVar[Mapping[str, str]] = {
        "query": "text", "q": "text", "image_url": "image", "embedding": "vector", "id": "like", "k": "top_k",
        "top_n": "top_k", "limit": "top_k", "max_num_results": "top_k", "where": "filter", "filters": "filter",
        "negative": "minus", "collection": "index",
    }  # fmt: skip

    index: str | None = Field(
        None, description="as /v1/indexes names it; may be left out where there is one alone", max_length=MAX_NAME
    )
    text: Text = None
    image: Image = None
    vector: Vector = None
    like: str | None = Field(None, description="the id of a row: what is near it, without itself", max_length=MAX_NAME)
    minus: Text = None
    weights: WeightsRequest | None = Field(None, description="of the parts; default: text 1, image 1, minus 0.5")
    top_k: int | None = Field(None, ge=1, le=MOST_RESULTS, description=f"default: {DEFAULT_RESULTS}")
    filter: str | None = Field(
        None,
        description="a condition of SQL over the index's columns, such as width > 1000 AND caption LIKE '%dog%'",
    )
    include: list[Included] | None = Field(
        None, description="what a result has beside its id, score and uri; default: metadata"
    )

    @field_validator("include", mode="before")
    @classmethod
    def _one_included(cls, value: Any) -> Any:
        """A form has a field once or more; once, it is no list."""
        return [value] if isinstance(value, str) else value
