"""Jina's zero-shot classification, which shares its path with this gateway's own: texts or images, by given labels."""

from typing import Any, Literal

import numpy as np
from fastapi import Request, Response
from pydantic import BaseModel, ConfigDict, Field

from tritonclip.protocol import FloatArray
from tritonclip_server.gateway.content.items import TextItem, mixed_items
from tritonclip_server.gateway.content.labels import labels_of
from tritonclip_server.gateway.content.truncation import truncated_field
from tritonclip_server.gateway.errors import ApiError
from tritonclip_server.gateway.inference.scores import calibrated
from tritonclip_server.gateway.parsing.request_models import Items, Text, TextsRequest
from tritonclip_server.gateway.responses.json_responses import (
    LABEL_BYTES,
    bytes_of_texts,
    check_size,
    json_list,
    large_response,
)
from tritonclip_server.gateway.responses.response_models import ActivationField, Usage
from tritonclip_server.gateway.routes.common import chosen, context_for, limits_of, made_of, usage


class JinaClassifyRequest(TextsRequest):
    """Jina's classify request, which has `input` where this gateway's own has images."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"input": [{"text": "a crimson disc"}], "labels": ["red circle", "blue star"]}]}
    )

    input: Items
    labels: Text = Field(description="compared as they are: a sentence fits better than a word")


class JinaPrediction(BaseModel):
    """A label and its probability."""

    label: str
    score: float


class JinaClassification(BaseModel):
    """The label that fits an input best, and the scores of all, in their order."""

    object: Literal["classification"]
    index: int
    prediction: str
    score: float = Field(description="a probability, as `activation` says")
    predictions: list[JinaPrediction]


class JinaClassifyResponse(BaseModel):
    """Jina's list of classifications."""

    object: Literal["list"]
    model: str
    activation: ActivationField
    data: list[JinaClassification]
    usage: Usage
    truncated: list[int] | None = Field(None, description="the labels that were cut")


async def classify(request: Request, asked: JinaClassifyRequest) -> Response:
    """The labels of each input, by the model's own probabilities."""
    limits = limits_of(request)
    service, manifest = await chosen(request, asked.model)
    items = await made_of(asked.input, lambda: mixed_items(asked.input, "input", limits))
    labels = await made_of(asked.labels, lambda: labels_of(asked.labels, "labels", limits, manifest))
    if not manifest.compares_labels(len(labels)):
        message = "give at least two: a score is a probability among the labels, and of one it is always 1"
        raise ApiError("invalid_value", message, param="labels")
    names = [label.text for label in labels]
    written = bytes_of_texts(names, len(names)) + bytes_of_texts(names, 1)  # all of them, and the best once more
    size = check_size(len(items), len(labels), LABEL_BYTES, limits, "labels", text_bytes=written)
    scores = await service.score_labels(
        context_for(request), manifest, items, labels, labels, truncate=asked.truncating()
    )

    def answer() -> dict[str, Any]:
        return {
            "object": "list",
            "model": service.model.id_of(manifest),
            "activation": manifest.activation,
            "data": json_list(
                _classification(index, row, labels) for index, row in enumerate(calibrated(manifest, scores.cosines)[1])
            ),
            "usage": usage(scores.tokens, scores.images),
            **truncated_field(scores.truncated),
        }

    return await large_response(answer, size)


def _classification(index: int, probabilities: FloatArray, labels: list[TextItem]) -> dict[str, Any]:
    best = int(np.argmax(probabilities))
    return {
        "object": "classification",
        "index": index,
        "prediction": labels[best].text,
        "score": float(probabilities[best]),
        "predictions": json_list(
            {"label": label.text, "score": float(score)} for label, score in zip(labels, probabilities, strict=True)
        ),
    }
