"""`GET /v1/models`: what is deployed, in OpenAI's shape."""

import time
from typing import Any

from fastapi import APIRouter, Request, Response

from tritonclip import Manifest
from tritonclip_server.gateway.answers import json_answer
from tritonclip_server.gateway.openapi import ERRORS
from tritonclip_server.gateway.replies import ModelReply, ModelsReply
from tritonclip_server.gateway.routes.common import service_of
from tritonclip_server.gateway.service import model_id
from tritonclip_server.gateway.settings import ANY_NAME

CREATED = int(time.time())  # OpenAI's clients require a date, and a manifest has none: when this gateway began

router = APIRouter(tags=["API"], responses=ERRORS)


@router.get("/models", response_model=ModelsReply)
@router.get("/v1/models", response_model=ModelsReply)
async def models(request: Request) -> Response:
    """The models: the one that is deployed, and once more by each of its other names, with it as their `root`.

    /models is the same, as infinity has it.
    """
    service = service_of(request)
    manifest = await service.manifest()
    names = [model_id(manifest), *(name for name in service.settings.aliases if name != ANY_NAME)]
    return json_answer({"object": "list", "data": [describe(manifest, name) for name in dict.fromkeys(names)]})


@router.get("/v1/models/{model:path}", response_model=ModelReply)
async def model(request: Request, model: str) -> Response:
    """One model: variant, dimensions, resolution, precision, fingerprint, label sets. Its name may have slashes."""
    return json_answer(describe(await service_of(request).model(model), model))


def describe(manifest: Manifest, name: str) -> dict[str, Any]:
    """A model by one of its names, as its manifest says."""
    return {
        "id": name,
        "object": "model",
        "created": CREATED,
        "owned_by": "tritonclip",
        "root": model_id(manifest),
        "variant": manifest.variant,
        "dimensions": manifest.embedding_width,
        "resolution": manifest.image_size,
        "precision": manifest.precision,
        "fingerprint": manifest.fingerprint,
        "random_weights": manifest.random_weights,
        "label_sets": {
            name: {"labels": entry.labels, "templates": len(entry.templates)}
            for name, entry in manifest.label_sets.items()
        },
    }
