"""Data sets for retrieval: images with their captions.

    COCO's JSON (images, annotations) ────────────────────────────┐
    Karpathy's JSON (images with sentences and a split) ──────────┼──> CaptionedImages
    a CSV: path,caption; several lines for a path are its captions ┘

Captions stay as they are written: no prompt is put around them.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tritonclip._errors import ConfigError
from tritonclip.evaluation._ranks import IntArray
from tritonclip.evaluation._tables import listed, read_csv, require_columns

_DEFAULT_SPLIT = "test"
_IMAGE_FOLDERS = ("", "images", "flickr30k-images", "flickr30k_images")


@dataclass(frozen=True, eq=False)
class CaptionedImages:
    """N images (names and paths) and T captions; ``image_of_caption`` [T] has the position of each caption's image."""

    names: tuple[str, ...]
    paths: tuple[Path, ...]
    captions: tuple[str, ...]
    image_of_caption: IntArray


def read_captioned(data: Path, captions: Path | None = None, split: str | None = None) -> CaptionedImages:
    """Read a CSV file with the columns path,caption, or a folder of images with its captions in JSON.

    The JSON file is ``captions``, else the folder's own: ``dataset_*.json`` (Karpathy's) or
    ``annotations/captions_*.json`` (COCO's), where there is one alone. ``split`` is for Karpathy's files, "test" unless
    told. Paths in a CSV are relative to it, and images with no caption are left out.

    Raises ConfigError, naming the file and the line or entry, where it cannot be read so.
    """
    if data.is_dir():
        return _read_json(data, captions or _find_captions(data), split)
    if captions is not None or split is not None:
        raise ConfigError(f"a captions file and a split are for a folder of images, and {data} is none")
    if not data.is_file():
        raise ConfigError(f"{data}: no such file or folder")
    header, lines = read_csv(data)
    require_columns(data, header, ("path", "caption"))
    pairs = []
    for line in lines:
        if not line.cells["path"] or not line.cells["caption"].strip():
            raise ConfigError(f"{line.where}: a path or a caption is missing")
        pairs.append((line.cells["path"], line.cells["caption"]))
    return _gather(data, pairs, data.parent)


def _gather(source: Path, pairs: list[tuple[str, str]], folder: Path) -> CaptionedImages:
    if not pairs:
        raise ConfigError(f"{source} has no captions")
    positions: dict[str, int] = {}
    owners = [positions.setdefault(name, len(positions)) for name, _ in pairs]
    return CaptionedImages(
        tuple(positions),
        tuple(folder / name for name in positions),
        tuple(caption for _, caption in pairs),
        np.array(owners, dtype=np.int64),
    )


def _find_captions(folder: Path) -> Path:
    found = sorted([*folder.glob("dataset_*.json"), *folder.glob("annotations/captions_*.json")])
    if len(found) == 1:
        return found[0]
    names = listed([path.relative_to(folder).as_posix() for path in found])
    raise ConfigError(
        f"{folder} has several captions files: {names}; name one"
        if found
        else f"{folder} has neither dataset_*.json nor annotations/captions_*.json; name its captions file"
    )


def _read_json(folder: Path, path: Path, split: str | None) -> CaptionedImages:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigError(f"{path}: {exc.strerror}") from exc
    except json.JSONDecodeError as exc:
        raise ConfigError(f"{path}, line {exc.lineno}: not JSON: {exc.msg}") from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path} is not UTF-8 text") from exc
    pairs = _pairs(path, document, split)
    return _gather(path, pairs, _image_folder(folder, path, pairs) if pairs else folder)


def _pairs(path: Path, document: Any, split: str | None) -> list[tuple[str, str]]:
    """Image names and captions, in either form."""
    kinds = "COCO's JSON (images, annotations) nor Karpathy's (images with sentences)"
    if not isinstance(document, dict) or not isinstance(document.get("images"), list):
        raise ConfigError(f"{path} is neither {kinds}")
    if "annotations" not in document:
        return list(_karpathy_pairs(path, document["images"], split or _DEFAULT_SPLIT))
    if split is not None:
        raise ConfigError(f"{path} is one of COCO's own files, which have no splits inside")
    return list(_coco_pairs(path, document))


def _coco_pairs(path: Path, document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    files = {
        str(_entry(image, "id", path, f"images[{number}]")): str(_entry(image, "file_name", path, f"images[{number}]"))
        for number, image in enumerate(document["images"])
    }
    for number, annotation in enumerate(document["annotations"]):
        where = f"annotations[{number}]"
        owner, caption = (str(_entry(annotation, key, path, where)) for key in ("image_id", "caption"))
        if owner not in files:
            raise ConfigError(f"{path}: {where}: there is no image with id {owner}")
        yield files[owner], caption


def _karpathy_pairs(path: Path, images: Any, split: str) -> Iterator[tuple[str, str]]:
    splits = set()
    for number, image in enumerate(images):
        where = f"images[{number}]"
        own_split = str(_entry(image, "split", path, where))
        splits.add(own_split)
        if own_split == split:
            name = str(_entry(image, "filename", path, where))
            if image.get("filepath"):  # COCO's images come in two folders
                name = f"{image['filepath']}/{name}"
            for sentence in _entry(image, "sentences", path, where):
                yield name, str(_entry(sentence, "raw", path, f"{where}.sentences"))
    if split not in splits:
        raise ConfigError(f"{path} has no split {split!r}; it has {', '.join(sorted(splits)) or 'no image'}")


def _entry(entry: Any, key: str, path: Path, where: str) -> Any:
    try:
        return entry[key]
    except (KeyError, TypeError) as exc:
        raise ConfigError(f"{path}: {where} has no {key!r}") from exc


def _image_folder(folder: Path, captions: Path, pairs: list[tuple[str, str]]) -> Path:
    """Where the images lie: the first of the usual places that has any of them. Those missing there fail by name."""
    own = captions.stem.removeprefix("captions_")  # captions_val2017.json: val2017
    places = [folder / place for place in (*_IMAGE_FOLDERS, own, f"images/{own}")]
    for place in places:
        if any((place / name).is_file() for name, _ in pairs):
            return place
    raise ConfigError(f"no image of {captions} is in any of {', '.join(map(str, places))}")
