"""Labels for images: `POST /v1/classify`, and the same in Hugging Face's shape."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response

from tritonclip import Manifest
from tritonclip_server.gateway.content.items import image_item, image_items
from tritonclip_server.gateway.content.labels import candidate_labels_of, labels_of, prompts_of
from tritonclip_server.gateway.content.truncation import truncated_field
from tritonclip_server.gateway.errors import ApiError, in_words
from tritonclip_server.gateway.inference.classification import Label
from tritonclip_server.gateway.openapi import described
from tritonclip_server.gateway.parsing.body import read_one_of, read_request
from tritonclip_server.gateway.parsing.request_models import ClassifyRequest, ZeroShotRequest
from tritonclip_server.gateway.responses.json_responses import (
    LABEL_BYTES,
    bytes_of_texts,
    check_size,
    json_list,
    large_response,
)
from tritonclip_server.gateway.responses.response_models import ClassifyResponse, ZeroShotLabel
from tritonclip_server.gateway.routes import jina
from tritonclip_server.gateway.routes.common import (
    chosen,
    context_for,
    errors_field,
    limits_of,
    made_of,
    one_of,
    say_truncated,
    usage,
)
from tritonclip_server.gateway.routes.jina import JinaClassifyRequest, JinaClassifyResponse

TEMPLATE = "a photo of a {}"
HUGGING_FACE_TEMPLATE = "This is a photo of {}."  # what its pipeline takes where none is given

router = APIRouter(tags=["API"])


@router.post(
    "/v1/classify",
    response_model=ClassifyResponse | JinaClassifyResponse,
    **described(ClassifyRequest, JinaClassifyRequest),
)
async def classify(request: Request) -> Response:
    """Find the labels that fit each image, best first.

    Either among `labels`, each put where the `template` has `{}`, or from a `label_set` that is stored with the model.
    `activation` says what a `probability` is: a softmax, relative to the other labels, and null where there is one
    alone; or a sigmoid, the label's own. A `cosine` is relative to nothing, and null in a label set that was trained,
    which takes no `min_cosine`. Labels below `threshold`, a probability, or `min_cosine` are left out; an image for
    which none is left is none of these. With `"partial": true` images that fail are left out of `data` and named in
    `errors`. Labels that are longer than the model reads are cut and listed in `truncated`, or refused, as `truncate`
    says. A request with `input`, instead of an image, is one of Jina's, and answered as Jina does.
    """
    limits = limits_of(request)
    asked = await read_one_of(request, ClassifyRequest, {"input": JinaClassifyRequest}, limits)
    if isinstance(asked, JinaClassifyRequest):
        return await jina.classify(request, asked)
    service, manifest = await chosen(request, asked.model)
    field, value = one_of({"image": asked.image, "images": asked.images})
    images = image_items(value, field, limits)
    one_of({"labels": asked.labels, "label_set": asked.label_set})
    if asked.label_set is not None:
        if asked.label_set not in manifest.label_sets:  # one may be new, and what is remembered is some seconds old
            manifest = await service.model.manifest(refresh=True)
        names = _names_of_set(asked, asked.label_set, manifest)
        activation = manifest.label_sets[asked.label_set].activation
    else:
        labels = await made_of(asked.labels, lambda: labels_of(asked.labels, "labels", limits, manifest))
        names = [label.text for label in labels]
        activation = manifest.activation
    _check_limits(asked, len(names), manifest)
    columns = min(asked.top_k or len(names), len(names))
    size = check_size(len(images), columns, LABEL_BYTES, limits, "labels", text_bytes=bytes_of_texts(names, columns))
    if asked.label_set is not None:
        found = await service.classify_stored(
            context_for(request), manifest, images, label_set=asked.label_set, top_k=columns, partial=asked.partial
        )
    else:
        prompts = await made_of(labels, lambda: prompts_of(labels, asked.template or TEMPLATE, "template", limits))
        found = await service.classify(
            context_for(request), manifest, images, labels, prompts,
            top_k=columns, truncate=asked.truncating(), partial=asked.partial,
        )  # fmt: skip

    def answer() -> dict[str, Any]:
        return {
            "object": "list",
            "model": service.model.id_of(manifest),
            "activation": activation,
            "data": json_list(
                {"index": index, "labels": json_list(_shown(_kept(labels, asked)))}
                for index, labels in enumerate(found.predictions)
                if index not in found.errors
            ),
            "usage": usage(found.tokens, len(images)),
            **truncated_field(found.truncated),
            **errors_field(found.errors),
        }

    return await large_response(answer, size)


@router.post(
    "/v1/models/{model:path}/zero-shot-image-classification",
    response_model=list[ZeroShotLabel],
    **described(ZeroShotRequest),
)
async def zero_shot_image_classification(request: Request, model: str) -> Response:
    """Hugging Face's zero-shot image classification: a list of labels with their scores, best first.

    Candidate labels in one string are parted at its commas, as its own server does. As there, a score is a softmax over
    them or, for a model with a logit bias, a sigmoid of each: the header `x-activation` says which. A softmax needs two
    labels or more. Labels that are longer than the model reads are cut, and the header `x-truncated` lists them.
    """
    limits = limits_of(request)
    asked = await read_request(request, ZeroShotRequest, limits)
    service, manifest = await chosen(request, model)
    given = asked.parameters
    _check_multi_label(given.multi_label, manifest)
    labels = await asyncio.to_thread(
        candidate_labels_of, given.candidate_labels, "parameters.candidate_labels", limits, manifest
    )
    template = given.hypothesis_template or HUGGING_FACE_TEMPLATE
    prompts = await made_of(labels, lambda: prompts_of(labels, template, "parameters.hypothesis_template", limits))
    images = [image_item(asked.inputs, "inputs")]
    found = await service.classify(context_for(request), manifest, images, labels, prompts)
    say_truncated(request, found.truncated)
    context_for(request).headers["x-activation"] = manifest.activation
    best = found.predictions[0]
    return await large_response(
        lambda: [{"label": each.label, "score": each.probability} for each in best], len(best) * LABEL_BYTES
    )


def _check_multi_label(asked: bool | None, manifest: Manifest) -> None:
    """Refuse to answer with probabilities of another kind than a caller asks for: labels are independent, or not."""
    if asked is None or asked == (manifest.activation == "sigmoid"):
        return
    message = (
        "this model's scores are a softmax over the labels, which compares them and judges none by itself"
        if asked
        else "this model's scores are a sigmoid of each label, which do not add up to 1"
    )
    raise ApiError("invalid_value", f"{message}; leave this out", param="parameters.multi_label")


def _names_of_set(asked: ClassifyRequest, name: str, manifest: Manifest) -> Sequence[str]:
    """The labels of a stored set; as many empty ones where the model does not say them."""
    if asked.template is not None:
        raise ApiError("invalid_value", "a label set has templates of its own", param="template")
    found = manifest.label_sets.get(name)
    if found is None:
        there_are = ", ".join(manifest.label_sets) or "none"
        raise ApiError("unknown_label_set", f"no label set {in_words(name)}; there are: {there_are}", param="label_set")
    return found.names or [""] * found.labels


def _check_limits(asked: ClassifyRequest, labels: int, manifest: Manifest) -> None:
    """A limit on a probability or a cosine that there is not would let everything pass, or nothing."""
    stored = manifest.label_sets[asked.label_set] if asked.label_set is not None else None
    if stored is not None and stored.kind == "trained" and asked.min_cosine is not None:
        proposed = "" if stored.threshold is None else f", such as {stored.threshold:g}, which it proposes"
        message = f"a label set that was trained has no cosines; give a threshold, the least probability{proposed}"
        raise ApiError("invalid_value", message, param="min_cosine")
    compared = manifest.compares_labels(labels) if stored is None else stored.compares_labels()
    if asked.threshold is not None and not compared:
        message = "the probability of one label alone is relative to nothing; give more labels, or min_cosine"
        raise ApiError("invalid_value", message, param="threshold")


def _kept(labels: Sequence[Label], asked: ClassifyRequest) -> Iterable[Label]:
    """The labels that reach what was asked for."""
    threshold, min_cosine = asked.threshold or 0.0, -1.0 if asked.min_cosine is None else asked.min_cosine
    for label in labels[: asked.top_k]:
        fits = label.cosine is None or label.cosine >= min_cosine
        if fits and (label.probability is None or label.probability >= threshold):
            yield label


def _shown(labels: Iterable[Label]) -> Iterable[dict[str, Any]]:
    for label in labels:
        yield {
            "label": label.label,
            "probability": label.probability,
            "cosine": label.cosine,
            "logit": label.logit,
            "index": label.index,
        }
