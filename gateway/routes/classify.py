"""Labels for images: `POST /v1/classify`, and the same in Hugging Face's shape."""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from fastapi import APIRouter, Request, Response

from gateway.answers import json_answer
from gateway.bodies import read_request
from gateway.errors import ApiError
from gateway.intake import ImageItem, TextItem, image_item, image_items, text_items
from gateway.openapi import described
from gateway.replies import ClassifyReply, ZeroShotLabel
from gateway.routes.common import cosines, errors_field, exchange_for, one_of, service_of, texts_must_do, usage
from gateway.schemas import ClassifyRequest, ZeroShotRequest
from gateway.service import Labelled, model_id
from tritonclip import Manifest, Prediction

TEMPLATE = "a photo of a {}"
HUGGING_FACE_TEMPLATE = "This is a photo of {}."  # what its pipeline takes where none is given

router = APIRouter(tags=["API"])


@router.post("/v1/classify", response_model=ClassifyReply, **described(ClassifyRequest))
async def classify(request: Request) -> Response:
    """Find the labels that fit each image, best first.

    Either among `labels`, each put where the `template` has `{}`, or from a `label_set` that is stored with the model.
    Labels below `threshold` are left out; an image for which none is left is none of these. With `"partial": true`
    images that fail are left out of `data` and named in `errors`.
    """
    service = service_of(request)
    asked = await read_request(request, ClassifyRequest, service.settings.limits)
    manifest = await service.model(asked.model)
    field, value = one_of({"image": asked.image, "images": asked.images})
    images = image_items(value, field)
    one_of({"labels": asked.labels, "label_set": asked.label_set})
    if asked.label_set is not None:
        found = await _by_label_set(request, manifest, images, asked, asked.label_set)
    else:
        texts = text_items(asked.labels, "labels", service.settings.limits)
        found = await _by_labels(
            request, manifest, images, texts, template=asked.template or TEMPLATE, partial=asked.partial
        )
    return json_answer(
        {
            "object": "list",
            "model": model_id(manifest),
            "data": [
                {"index": index, "labels": [asdict(label) for label in _kept(labels, asked)]}
                for index, labels in enumerate(found.predictions)
                if index not in found.errors
            ],
            "usage": usage(found.tokens, len(images)),
            **errors_field(found.errors),
        }
    )


@router.post(
    "/v1/models/{model}/zero-shot-image-classification",
    response_model=list[ZeroShotLabel],
    **described(ZeroShotRequest),
)
async def zero_shot_image_classification(request: Request, model: str) -> Response:
    """Hugging Face's zero-shot image classification: a list of labels with their scores, best first."""
    service = service_of(request)
    asked = await read_request(request, ZeroShotRequest, service.settings.limits)
    manifest = await service.model(model)
    labels = text_items(asked.parameters.candidate_labels, "parameters.candidate_labels", service.settings.limits)
    template = asked.parameters.hypothesis_template or HUGGING_FACE_TEMPLATE
    images = [image_item(asked.inputs, "inputs")]
    found = await _by_labels(request, manifest, images, labels, template=template, partial=False)
    return json_answer([{"label": best.label, "score": best.probability} for best in found.predictions[0]])


async def _by_labels(
    request: Request,
    manifest: Manifest,
    images: list[ImageItem],
    labels: list[TextItem],
    *,
    template: str,
    partial: bool,
) -> Labelled:
    prompts = [TextItem(template.replace("{}", label.text), label.param) for label in labels]
    field = labels[0].param.partition("[")[0]
    vectors = await service_of(request).embed(
        exchange_for(request), manifest, [*images, *prompts], field=field, partial=partial
    )
    texts_must_do(vectors, len(images))
    cosine = cosines(vectors, len(images))
    logits, probabilities = manifest.calibrate(cosine)
    # By logit: it has the order of the probabilities, and still tells labels apart where those round to 0.
    order = np.argsort(-logits, axis=1, kind="stable")
    predictions = [
        [
            Prediction(
                labels[i].text, float(probabilities[row, i]), float(cosine[row, i]), float(logits[row, i]), int(i)
            )
            for i in best
        ]
        for row, best in enumerate(order)
    ]
    return Labelled(predictions, vectors.errors, vectors.tokens)


async def _by_label_set(
    request: Request, manifest: Manifest, images: list[ImageItem], asked: ClassifyRequest, name: str
) -> Labelled:
    if asked.template is not None:
        raise ApiError("invalid_value", "a label set has templates of its own", param="template")
    if name not in manifest.label_sets:
        there_are = ", ".join(manifest.label_sets) or "none"
        raise ApiError("unknown_label_set", f"no label set {name!r}; there are: {there_are}", param="label_set")
    return await service_of(request).label(
        exchange_for(request), images, label_set=name, top_k=asked.top_k, partial=asked.partial
    )


def _kept(labels: Sequence[Prediction], asked: ClassifyRequest) -> list[Prediction]:
    threshold = asked.threshold or 0.0
    return [label for label in labels[: asked.top_k] if label.probability >= threshold]
