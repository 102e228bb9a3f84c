"""`POST /v1/similarity`: the main job. Images and texts in, scores out."""

import functools
from typing import Any

from fastapi import APIRouter, Request, Response

from tritonclip_server.gateway.content.items import Item, image_items, text_items
from tritonclip_server.gateway.content.truncation import truncated_field
from tritonclip_server.gateway.inference.scores import calibrated, cosines
from tritonclip_server.gateway.openapi import described
from tritonclip_server.gateway.parsing.body import read_request
from tritonclip_server.gateway.parsing.request_models import SimilarityRequest
from tritonclip_server.gateway.responses.json_responses import SCORE_BYTES, check_size, json_list, large_response
from tritonclip_server.gateway.responses.response_models import SimilarityResponse
from tritonclip_server.gateway.routes.common import chosen, context_for, errors_field, limits_of, made_of, one_of, usage

router = APIRouter(tags=["API"])

MATRICES = 3


@router.post("/v1/similarity", response_model=SimilarityResponse, **described(SimilarityRequest))
async def similarity(request: Request) -> Response:
    """Compare each image with each text.

    `cosine` is in -1..1, `logits` are at the model's own scale. `activation` says what `probabilities` are: a softmax
    over the texts of an image, null of one text alone, for it would be 1 whatever the image is; or a sigmoid, each
    text's own. With `"partial": true` the rows of images that fail are null, and `errors` names them. Texts that are
    longer than the model reads are cut and listed in `truncated`, or refused, as `truncate` says.
    """
    limits = limits_of(request)
    asked = await read_request(request, SimilarityRequest, limits)
    service, manifest = await chosen(request, asked.model)
    field, value = one_of({"image": asked.image, "images": asked.images})
    images = await made_of(value, functools.partial(image_items, value, field, limits))
    field, value = one_of({"text": asked.text, "texts": asked.texts})
    texts = await made_of(value, functools.partial(text_items, value, field, limits))
    size = check_size(len(images), len(texts), MATRICES * SCORE_BYTES, limits, field)
    items: list[Item] = [*images, *texts]
    vectors = await service.embed(
        context_for(request), manifest, items, field=field, partial=asked.partial, truncate=asked.truncating()
    )
    vectors.require(len(images))

    def answer() -> dict[str, Any]:
        cosine = cosines(vectors, len(images))
        logits, probabilities = calibrated(manifest, cosine)
        return {
            "object": "similarity",
            "model": service.model.id_of(manifest),
            "activation": manifest.activation,
            "cosine": json_list(cosine),
            "logits": json_list(logits),
            "probabilities": json_list(probabilities),
            "usage": usage(vectors.tokens, vectors.images),
            **truncated_field(vectors.truncated, first=len(images)),
            **errors_field(vectors.errors),
        }

    return await large_response(answer, size)
