"""`GET /v1/models`: what is deployed, in OpenAI's shape."""

import time
from typing import Any

from fastapi import APIRouter, Request, Response

from tritonclip import Manifest
from tritonclip_server.gateway.inference.service import model_id
from tritonclip_server.gateway.openapi import ERRORS
from tritonclip_server.gateway.responses.json_responses import json_response
from tritonclip_server.gateway.responses.response_models import ModelResponse, ModelsResponse
from tritonclip_server.gateway.routes.common import service_of
from tritonclip_server.gateway.settings import ANY_NAME

CREATED = int(time.time())  # OpenAI's clients require a date, and a manifest has none: when this gateway began

router = APIRouter(tags=["API"], responses=ERRORS)


@router.get("/models", response_model=ModelsResponse)
@router.get("/v1/models", response_model=ModelsResponse)
async def models(request: Request) -> Response:
    """The models: the one that is deployed, and once more by each of its other names, with it as their `root`.

    /models is the same, as infinity has it.
    """
    service = service_of(request)
    manifest = await service.manifest()
    names = [model_id(manifest), *(name for name in service.settings.aliases if name != ANY_NAME)]
    return json_response({"object": "list", "data": [describe(manifest, name) for name in dict.fromkeys(names)]})


@router.get("/v1/models/{model:path}", response_model=ModelResponse)
async def model(request: Request, model: str) -> Response:
    """One model: variant, dimensions, resolution, precision, fingerprint, label sets. Its name may have slashes."""
    return json_response(describe(await service_of(request).model(model), model))


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
