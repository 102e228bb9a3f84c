"""Which model: a name of variants.toml, or any open_clip architecture and tag as `ARCH/TAG`."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

import open_clip

from export.errors import UnknownVariant

VARIANTS_FILE = Path(__file__).with_name("variants.toml")


@dataclass(frozen=True)
class Variant:
    """An open_clip architecture and the tag of its pretrained weights."""

    architecture: str
    pretrained: str

    @property
    def name(self) -> str:
        """What folders and manifests call it."""
        return f"{self.architecture}-{self.pretrained}"


@dataclass(frozen=True)
class ListedVariant(Variant):
    """A variant that tritonclip knows by name, with what its model card says of it."""

    resolution: int
    training_set: str
    top1: float  # zero-shot ImageNet-1k top-1, percent
    default: bool = False


def listed_variants() -> tuple[ListedVariant, ...]:
    """The variants of variants.toml, in its order."""
    entries = tomllib.loads(VARIANTS_FILE.read_text(encoding="utf-8"))["variant"]
    return tuple(ListedVariant(**entry) for entry in entries)


def default_variant() -> ListedVariant:
    """The variant that the committed model_repository/ is complete for."""
    return next(variant for variant in listed_variants() if variant.default)


def resolve(name: str) -> Variant:
    """The variant of this name, or the one that `ARCH/TAG` spells out; UnknownVariant names the nearest ones."""
    for variant in listed_variants():
        if name == variant.name:
            return variant
    architecture, slash, tag = name.partition("/")
    if not slash:
        names = ", ".join(variant.name for variant in listed_variants())
        raise UnknownVariant(f"no variant {name!r}; there are {names}, and any ARCH/TAG that open_clip lists")
    if open_clip.get_model_config(architecture) is None:
        raise UnknownVariant(f"open_clip has no architecture {architecture!r}; see open_clip.list_models()")
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if tags and not open_clip.get_pretrained_cfg(architecture, tag):
        raise UnknownVariant(f"open_clip has no weights {tag!r} for {architecture}; it has {', '.join(tags)}")
    return Variant(architecture, tag)


def format_table() -> str:
    """The listed variants as a table for people."""
    rows = [("variant", "architecture", "pretrained", "px", "training set", "ImageNet top-1")]
    rows += [
        (
            v.name + (" *" if v.default else ""),
            v.architecture,
            v.pretrained,
            str(v.resolution),
            v.training_set,
            f"{v.top1} %",
        )
        for v in listed_variants()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, "* the default. Any other open_clip model: ARCH/TAG, e.g. ViT-B-32/openai"])
