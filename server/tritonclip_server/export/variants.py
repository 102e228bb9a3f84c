"""Which model: a name of variants.toml, any open_clip architecture and tag as `ARCH/TAG`, or a folder.

A folder is laid out as open_clip's `local-dir:` reads it: open_clip_config.json beside the weights. `demo` is the one
that lies in this repository.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path

import open_clip

from tritonclip_server.export.errors import UnknownVariant
from tritonclip_server.resources import DEMO

VARIANTS_FILE = Path(__file__).with_name("variants.toml")
FOLDER_CONFIG = "open_clip_config.json"


@dataclass(frozen=True)
class Variant:
    """An open_clip architecture and the tag of its pretrained weights."""

    architecture: str
    pretrained: str

    @property
    def name(self) -> str:
        """What folders and manifests call it."""
        return f"{self.architecture}-{self.pretrained}"

    @property
    def source(self) -> str:
        """What open_clip's functions are given for it."""
        return self.architecture


@dataclass(frozen=True)
class LocalVariant(Variant):
    """A model in a folder of its own: `architecture` is the folder's name, and there is no other tag than `local`."""

    folder: Path

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.architecture

    @property
    def source(self) -> str:
        """open_clip's name for a folder."""
        return f"local-dir:{self.folder}"


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
    """The variant of this name, in this folder, or that `ARCH/TAG` spells out; UnknownVariant says what there is."""
    for variant in listed_variants():
        if name == variant.name:
            return variant
    folder = DEMO if name == DEMO.name else Path(name).resolve()
    if (folder / FOLDER_CONFIG).is_file():
        return LocalVariant(folder.name, "local", folder)
    architecture, slash, tag = name.partition("/")
    if not slash:
        names = ", ".join(variant.name for variant in listed_variants())
        raise UnknownVariant(
            f"no variant {name!r}; there are {DEMO.name}, {names}, any ARCH/TAG that open_clip lists, and any "
            f"folder with an {FOLDER_CONFIG}"
        )
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
    notes = [
        "* the default. Any other open_clip model: ARCH/TAG, e.g. ViT-B-32/openai, or a folder in its local-dir layout",
        "demo is a small model that comes along, trained on drawn scenes: a colour, a shape, a size, a background",
    ]
    return "\n".join([*lines, *notes])
