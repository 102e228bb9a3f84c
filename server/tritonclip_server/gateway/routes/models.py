"""`GET /v1/models`: what is deployed, in OpenAI's shape."""

import time
from typing import Any

from fastapi import APIRouter, Request, Response

from tritonclip_server.gateway.inference.served_model import ServedModel
from tritonclip_server.gateway.openapi import ERRORS
from tritonclip_server.gateway.responses.json_responses import json_response
from tritonclip_server.gateway.responses.response_models import ModelResponse, ModelsResponse
from tritonclip_server.gateway.routes.common import context_for, models_of

CREATED = int(time.time())  # OpenAI's clients require a date, and a manifest has none: when this gateway began

router = APIRouter(tags=["API"], responses=ERRORS)


@router.get("/models", response_model=ModelsResponse)
@router.get("/v1/models", response_model=ModelsResponse)
async def models(request: Request) -> Response:
    """The models that the key may use, the default one first, and once more by each other name, with its `root`.

    A model that has a name is listed while it does not answer too; what it never said is null. /models is the same, as
    infinity has it.
    """
    listed = await models_of(request).listed(context_for(request).key)
    return json_response({"object": "list", "data": [describe(service.model, name) for name, service in listed]})


@router.get("/v1/models/{model:path}", response_model=ModelResponse)
async def model(request: Request, model: str) -> Response:
    """One model: variant, dimensions, resolution, precision, fingerprint, label sets. Its name may have slashes."""
    service = await models_of(request).find(context_for(request).key, model)
    return json_response(describe(service.model, model))


def describe(model: ServedModel, name: str) -> dict[str, Any]:
    """A model by one of its names, as its manifest says; null for what nobody knows, as it has never answered."""
    manifest = model.known
    return {
        "id": name,
        "object": "model",
        "created": CREATED,
        "owned_by": "tritonclip",
        "root": model.id,
        "variant": manifest and manifest.variant,
        "dimensions": manifest and manifest.embedding_width,
        "resolution": manifest and manifest.image_size,
        "precision": manifest and manifest.precision,
        "activation": manifest and manifest.activation,
        "fingerprint": manifest and manifest.fingerprint,
        "random_weights": manifest and manifest.random_weights,
        "label_sets": {
            name: {
                "labels": entry.labels,
                "templates": len(entry.templates),
                "kind": entry.kind,
                "threshold": entry.threshold,
                "activation": entry.activation,
            }
            for name, entry in (manifest.label_sets.items() if manifest else ())
        },
    }
