"""Hugging Face's feature extraction, and its text-embeddings-inference (TEI): `/embed`, `/`, `/info`, TEI's `/rerank`.

TEI's rerank shares its path with Cohere's, infinity's and vLLM's, whose route calls `rank`.
"""

from typing import Any, ClassVar, Literal

import numpy as np
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from tritonclip import __version__
from tritonclip_server.gateway.content.items import BadItem, mixed_item, mixed_items, text_items
from tritonclip_server.gateway.inference.scores import cosines
from tritonclip_server.gateway.openapi import ERRORS, described
from tritonclip_server.gateway.parsing.body import read_request
from tritonclip_server.gateway.parsing.request_models import HubOptions, Items, Text, TextsRequest
from tritonclip_server.gateway.responses.encodings import encoded
from tritonclip_server.gateway.responses.error_formats import ErrorFormat, plain
from tritonclip_server.gateway.responses.json_responses import SCORE_BYTES, json_list, json_response, large_response
from tritonclip_server.gateway.routes.common import (
    check_dimensions,
    chosen,
    context_for,
    limits_of,
    made_of,
    say_truncated,
)

router = APIRouter(tags=["other APIs"])


class FeatureExtractionRequest(TextsRequest):
    """Hugging Face's feature extraction request; options may stand under `parameters`, too."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"inputs": ["a red circle", "a blue star"]}]})

    inputs: Items
    dimensions: int | None = Field(None, description="the model's own, or left out")
    encoding_format: Literal["float", "base64"] | None = None
    options: HubOptions | None = None

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> dict[str, Any]:
        """As it is, with what stands under `parameters` beside the inputs."""
        parameters = document.get("parameters")
        if not isinstance(parameters, dict) or parameters.keys() & document.keys():
            return document
        return {name: value for name, value in document.items() if name != "parameters"} | parameters


class TeiRerankRequest(TextsRequest):
    """TEI's rerank request, which has `texts` where others have `documents`."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"query": "a red circle", "texts": ["a red disc", "a"]}]})
    error_format: ClassVar[ErrorFormat | None] = plain

    query: str
    texts: Text
    return_text: bool | None = None


class TeiRank(BaseModel):
    """A text's place."""

    index: int
    score: float = Field(description="the cosine with the query, -1 to 1")
    text: str | None = None


class InfoResponse(BaseModel):
    """What TEI's clients ask for before they begin."""

    model_id: str
    model_sha: str | None = Field(description="the model's fingerprint")
    model_dtype: str | None
    model_type: dict[str, dict[str, str]]
    max_concurrent_requests: int
    max_input_length: int | None
    max_client_batch_size: int
    auto_truncate: bool
    version: str


@router.post("/", response_model=list[list[float] | str], **described(FeatureExtractionRequest))
@router.post("/embed", response_model=list[list[float] | str], **described(FeatureExtractionRequest))
async def feature_extraction(request: Request) -> Response:
    """Hugging Face's feature extraction: a list of vectors, of one input too.

    Data URLs among the inputs are images. Texts that are longer than the model reads are cut, and the header
    `x-truncated` lists them; with `"truncate": false` they are refused.
    """
    return await _extract(request)


@router.post(
    "/pipeline/feature-extraction/{model:path}",
    response_model=list[list[float] | str],
    **described(FeatureExtractionRequest),
)
@router.post(
    "/models/{model:path}/pipeline/feature-extraction",
    response_model=list[list[float] | str],
    **described(FeatureExtractionRequest),
)
async def feature_extraction_of(request: Request, model: str) -> Response:
    """Hugging Face's feature extraction, as /embed, at the paths of its own service."""
    return await _extract(request, model)


async def _extract(request: Request, model: str | None = None) -> Response:
    limits = limits_of(request)
    asked = await read_request(request, FeatureExtractionRequest, limits)
    service, manifest = await chosen(request, model or asked.model)
    check_dimensions(manifest, dimensions=asked.dimensions)
    items = await made_of(asked.inputs, lambda: mixed_items(asked.inputs, "inputs", limits))
    vectors = await service.embed(
        context_for(request), manifest, items, field="inputs", partial=False, truncate=asked.truncating()
    )
    say_truncated(request, vectors.truncated)
    in_base64 = asked.encoding_format == "base64"
    return await large_response(
        lambda: json_list(encoded(vectors.features, "float", base64=in_base64)), vectors.features.nbytes
    )


async def rank(request: Request, asked: TeiRerankRequest) -> Response:
    """TEI's ranks: texts by their cosine with the query, best first; `x-truncated` lists those that were cut."""
    limits = limits_of(request)
    service, manifest = await chosen(request, asked.model)
    query = mixed_item(asked.query, "query", limits)
    if isinstance(query, BadItem):
        raise query.error
    texts = await made_of(asked.texts, lambda: text_items(asked.texts, "texts", limits))
    vectors = await service.embed(
        context_for(request), manifest, [query, *texts], field="texts", partial=False, truncate=asked.truncating()
    )
    say_truncated(request, [position - 1 for position in vectors.truncated if position])
    scores = cosines(vectors, 1)[0]

    def answer() -> Any:
        return json_list(
            {"index": int(index), "score": float(scores[index])}
            | ({"text": texts[index].text} if asked.return_text else {})
            for index in np.argsort(-scores, kind="stable")
        )

    echoed = sum(len(text.text) for text in texts) if asked.return_text else 0
    return await large_response(answer, len(texts) * SCORE_BYTES + echoed)


@router.get("/info", response_model=InfoResponse, responses=ERRORS)
async def info(request: Request) -> Response:
    """The default model and its limits, as TEI tells them."""
    limits = limits_of(request)
    service, manifest = await chosen(request, None)
    return json_response(
        {
            "model_id": service.model.id_of(manifest),
            "model_sha": manifest.fingerprint,
            "model_dtype": manifest.precision,
            "model_type": {"embedding": {"pooling": "last_token"}},  # of a CLIP text, its end token's feature
            "max_concurrent_requests": limits.waiting,  # beyond it they are refused
            "max_input_length": manifest.context_length,
            "max_client_batch_size": limits.texts,
            "auto_truncate": True,
            "version": __version__,
        }
    )
