"""What the model's authors measured, from published.toml: to be printed beside what is measured here."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from tritonclip._manifest import Manifest


@dataclass(frozen=True)
class Published:
    """Published figures of the deployed model on one data set: percent by measure, empty where there are none.

    ``note`` says where they are from, or why there are none. ``images`` is how many the data set has in full.
    """

    percent: Mapping[str, float]
    note: str
    images: int | None = None


def published_figures(manifest: Manifest, dataset: str) -> Published:
    """The figures for the served variant at its resolution on ``dataset`` ("imagenet", "coco", "flickr30k")."""
    document = _document()
    if manifest.random_weights:
        return Published({}, "random weights have no published figure")
    own = [entry for entry in document["result"] if (entry["variant"], entry["dataset"]) == (manifest.variant, dataset)]
    for entry in own:
        if entry["image_size"] == manifest.image_size:
            images = int(document["dataset"][dataset]["images"])
            return Published(entry["percent"], document["source"][entry["source"]], images)
    if own:
        sizes = " and ".join(f"{entry['image_size']} px" for entry in own)
        return Published({}, f"published for {sizes}, and {manifest.image_size} px are deployed: not compared")
    return Published({}, f"no published figure of {manifest.variant} on {dataset} is known here")


@cache
def _document() -> dict[str, Any]:
    return tomllib.loads(resources.files(__package__).joinpath("published.toml").read_text(encoding="utf-8"))
