"""What answers about indexes hold: documentation for OpenAPI, in the shape of vector stores."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from tritonclip_server.gateway.responses.response_models import Usage


class RowResponse(BaseModel):
    """A row of an index."""

    id: str = Field(description="made from the uri, and the same as long as that is")
    uri: str = Field(description="where the image is, as the index has it: a path where it was made, or a URL")
    metadata: dict[str, Any] | None = Field(
        None, description="width, height, bytes, digest, mtime, caption and the index's own columns; null: not known"
    )
    thumbnail: str | None = Field(description="its path on this gateway; null where the index has no thumbnails")


class SampleResponse(RowResponse):
    """A row to begin with."""

    object: Literal["index.row"]


class SearchResult(RowResponse):
    """A row that was found."""

    object: Literal["search.result"]
    score: float = Field(description="the cosine with what was looked for, -1 to 1")


class SearchResponse(BaseModel):
    """Rows, best first."""

    object: Literal["list"]
    index: str
    model: str
    data: list[SearchResult]
    exact: bool = Field(description="whether every row was looked at")
    rows: int = Field(description="that the index has")
    usage: Usage
    query_truncated: bool | None = Field(None, description="a text was longer than the model reads, and cut")


class SamplesResponse(BaseModel):
    """Some rows."""

    object: Literal["list"]
    index: str
    data: list[SampleResponse]


class IndexResponse(BaseModel):
    """An index."""

    id: str
    object: Literal["index"]
    rows: int
    width: int = Field(description="of its vectors")
    precision: str
    variant: str | None
    fingerprint: str = Field(description="of the model that made its vectors")
    matches_model: bool | None = Field(description="whether that is the one that is deployed; null: not known yet")
    thumbnails: bool
    columns: list[str] = Field(description="that a filter may name")


class IndexesResponse(BaseModel):
    """All indexes."""

    object: Literal["list"]
    data: list[IndexResponse]
