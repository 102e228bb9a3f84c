"""`POST /v1/similarity`: the main job. Images and texts in, scores out."""

from fastapi import APIRouter, Request, Response

from gateway.answers import json_answer
from gateway.bodies import read_request
from gateway.intake import Item, image_items, text_items
from gateway.openapi import described
from gateway.replies import SimilarityReply
from gateway.routes.common import cosines, errors_field, exchange_for, one_of, service_of, texts_must_do, usage
from gateway.schemas import SimilarityRequest
from gateway.service import model_id

router = APIRouter(tags=["API"])


@router.post("/v1/similarity", response_model=SimilarityReply, **described(SimilarityRequest))
async def similarity(request: Request) -> Response:
    """Compare each image with each text.

    `cosine` is in -1..1, `logits` are at the model's own scale, `probabilities` are over the texts of an image. With
    `"partial": true` the rows of images that fail are null, and `errors` names them.
    """
    service = service_of(request)
    asked = await read_request(request, SimilarityRequest, service.settings.limits)
    manifest = await service.model(asked.model)
    field, value = one_of({"image": asked.image, "images": asked.images})
    images = image_items(value, field)
    field, value = one_of({"text": asked.text, "texts": asked.texts})
    texts = text_items(value, field, service.settings.limits)
    items: list[Item] = [*images, *texts]
    vectors = await service.embed(exchange_for(request), manifest, items, field=field, partial=asked.partial)
    texts_must_do(vectors, len(images))
    cosine = cosines(vectors, len(images))
    logits, probabilities = manifest.calibrate(cosine)
    return json_answer(
        {
            "object": "similarity",
            "model": model_id(manifest),
            "cosine": cosine,
            "logits": logits,
            "probabilities": probabilities,
            "usage": usage(vectors.tokens, vectors.images),
            **errors_field(vectors.errors),
        }
    )
