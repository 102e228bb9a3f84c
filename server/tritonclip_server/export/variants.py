"""Which model: a name of variants.toml, any open_clip architecture and tag as `ARCH/TAG`, a folder, or a mixture.

A folder is laid out as open_clip's `local-dir:` reads it: open_clip_config.json beside the weights. `demo` is the one
that lies in this repository. A repository of the Hugging Face hub in the same layout is `hf-hub:ORG/REPO`.
"""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip

from tritonclip_server.export.errors import BadMixture, UnknownVariant, WeightsUnavailable
from tritonclip_server.export.interpolation import check_alpha
from tritonclip_server.resources import DEMO

VARIANTS_FILE = Path(__file__).with_name("variants.toml")
FOLDER_CONFIG = "open_clip_config.json"
HUB, FOLDER = "hf-hub:", "local-dir:"  # as open_clip has them
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
CHECKPOINT_SUFFIXES = (".safetensors", ".pt", ".bin")


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

    def files(self) -> list[Path]:
        """What its weights depend on, of the files of this machine that can change."""
        return []


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

    def files(self) -> list[Path]:
        """All that lies in the folder."""
        return sorted(self.folder.iterdir())


@dataclass(frozen=True)
class HubVariant(Variant):
    """A repository of the Hugging Face hub: `architecture` is ORG/REPO, and there is no other tag than `hub`."""

    @property
    def name(self) -> str:
        """ORG--REPO, as the hub's own cache has it."""
        return self.architecture.replace("/", "--")

    @property
    def source(self) -> str:
        """open_clip's name for it."""
        return f"{HUB}{self.architecture}"


@dataclass(frozen=True)
class FileVariant(Variant):
    """Weights in a file, for the architecture of a variant."""

    file: Path

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.file.stem

    def files(self) -> list[Path]:
        """The file."""
        return [self.file]


@dataclass(frozen=True)
class MixedVariant(Variant):
    """Weights at `alpha` of the way from one variant to another; architecture and preprocessing are the first's."""

    first: Variant
    second: Variant
    alpha: float

    @property
    def name(self) -> str:
        """Both names, and how far it is from the first."""
        return f"{self.first.name}-{self.second.name}-{self.alpha:g}"

    @property
    def source(self) -> str:
        """The first's."""
        return self.first.source

    def files(self) -> list[Path]:
        """Those of both."""
        return self.first.files() + self.second.files()


@dataclass(frozen=True)
class ListedVariant(Variant):
    """A variant that tritonclip knows by name, with what its model card says of it."""

    resolution: int
    training_set: str
    top1: float  # zero-shot ImageNet-1k top-1, percent
    group: str  # what stands over it in --list
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
    if name.startswith(HUB):
        return _hub_variant(name.removeprefix(HUB))
    folder = DEMO if name == DEMO.name else Path(name.removeprefix(FOLDER)).resolve()
    if (folder / FOLDER_CONFIG).is_file():
        return LocalVariant(folder.name, "local", folder)
    if name.startswith(FOLDER):
        raise UnknownVariant(f"{folder} has no {FOLDER_CONFIG}, so it is no model in open_clip's local-dir layout")
    architecture, slash, tag = name.partition("/")
    if not slash:
        names = ", ".join(variant.name for variant in listed_variants())
        raise UnknownVariant(
            f"no variant {name!r}; there are {DEMO.name}, {names}, any ARCH/TAG that open_clip lists, any folder with "
            f"an {FOLDER_CONFIG}, and {HUB}ORG/REPO"
        )
    if open_clip.get_model_config(architecture) is None:
        raise UnknownVariant(f"open_clip has no architecture {architecture!r}; see open_clip.list_models()")
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if tags and not open_clip.get_pretrained_cfg(architecture, tag):
        raise UnknownVariant(f"open_clip has no weights {tag!r} for {architecture}; it has {', '.join(tags)}")
    return Variant(architecture, tag)


def _hub_variant(repository: str) -> HubVariant:
    if not REPOSITORY.fullmatch(repository):
        raise UnknownVariant(f"{HUB}{repository}: a repository of the hub is {HUB}ORG/REPO")
    return HubVariant(repository, "hub")


def model_config(variant: Variant) -> dict[str, Any]:
    """open_clip's configuration of a variant's architecture; WeightsUnavailable where it cannot be read."""
    try:
        config: dict[str, Any] = open_clip.get_model_config(variant.source) or {}
    except Exception as error:  # a file that is no JSON, and all that the hub's client raises
        hub = ", from the hub nor from the local hub cache (HF_HOME)" if isinstance(variant, HubVariant) else ""
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise WeightsUnavailable(f"{variant.source}: its {FOLDER_CONFIG} cannot be read{hub}: {reason}") from error
    return config


def resolve_mixture(first: str, second: str, alpha: str) -> MixedVariant:
    """The mixture of two variants, or of one and a file with weights for its architecture; alpha from 0 to 1.

    Raises UnknownVariant and BadMixture.
    """
    try:
        share = float(alpha)
    except ValueError as error:
        raise BadMixture(
            f"alpha is {alpha!r}, and not a number from 0, the first checkpoint, to 1, the second"
        ) from error
    check_alpha(share)
    start = resolve(first)
    if isinstance(start, LocalVariant) or Path(second).suffix not in CHECKPOINT_SUFFIXES:
        other = resolve(second)
    else:
        other = FileVariant(start.architecture, start.pretrained, Path(second).resolve())
    return MixedVariant(start.architecture, start.pretrained, start, other, share)


def format_table() -> str:
    """The listed variants as a table for people, a group after the other."""
    variants = listed_variants()
    head = ("variant", "architecture", "pretrained", "px", "training set", "ImageNet top-1")
    rows = {variant: _row(variant) for variant in variants}
    widths = [max(map(len, column)) for column in zip(head, *rows.values(), strict=True)]

    def line(cells: tuple[str, ...]) -> str:
        return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()

    lines = [line(head)]
    for group in dict.fromkeys(variant.group for variant in variants):
        lines += ["", f"{group}:", *(line(row) for variant, row in rows.items() if variant.group == group)]
    notes = [
        "* the default. Any other open_clip model: ARCH/TAG, e.g. ViT-B-32/openai, or a folder in its local-dir layout",
        "demo is a small model that comes along, trained on drawn scenes: a colour, a shape, a size, a background",
    ]
    return "\n".join([*lines, "", *notes])


def _row(variant: ListedVariant) -> tuple[str, ...]:
    name = variant.name + (" *" if variant.default else "")
    numbers = str(variant.resolution), variant.training_set, f"{variant.top1} %"
    return name, variant.architecture, variant.pretrained, *numbers
