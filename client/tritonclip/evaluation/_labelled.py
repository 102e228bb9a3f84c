"""Data sets for classification: images, and the index of each one's label in a label set.

    a folder for each class ──by name, by WordNet order, or by a class map──┐
    a CSV: path,label or path,index ────────────────────────────────────────┴──> LabelledImages

Truth is kept as an index, not as a name: ImageNet's list has two "missile" and two "sunglasses", and published figures
count a prediction of the other one as wrong.
"""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tritonclip._errors import ConfigError
from tritonclip._image_files import is_image_name
from tritonclip._manifest import LabelSet
from tritonclip.evaluation._tables import Line, listed, read_csv, require_columns

_WORDNET_ID = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class LabelledImage:
    """An image: what the data set calls it (unique), where it lies, and the index of its label."""

    name: str
    path: Path
    label: int


@dataclass(frozen=True)
class LabelledImages:
    """A data set; ``matching`` says in words how its classes were matched to the label set."""

    images: tuple[LabelledImage, ...]
    matching: str


def read_labelled(data: Path, label_set: LabelSet, class_map: Path | None = None) -> LabelledImages:
    """Read a folder of class folders, or a CSV file with the columns path,label or path,index.

    A class folder's name is a label; or all are WordNet ids (``n01440764``), as many as there are labels, and stand in
    the labels' order; or the ``class_map`` (a CSV with the columns folder,label or folder,index) says what each is. An
    index counts from 0 in the label set, and is for labels that occur more than once. Paths in a CSV are relative to
    it.

    Raises ConfigError, naming file and line or the folders, where a class cannot be told for certain.
    """
    labels = _Labels(label_set)
    if data.is_dir():
        return _read_folders(data, labels, class_map)
    if class_map is not None:
        raise ConfigError(f"a class map is for class folders, and {data} is none: write the labels into it")
    if not data.is_file():
        raise ConfigError(f"{data}: no such file or folder")
    return _read_csv(data, labels)


def find_labels(data: Path) -> tuple[str, ...]:
    """The labels that a data set itself names, sorted: its class folders, or what its CSV has in the column label.

    Raises ConfigError as ``read_labelled`` does.
    """
    if data.is_dir():
        return tuple(_class_folders(data))
    if not data.is_file():
        raise ConfigError(f"{data}: no such file or folder")
    header, lines = read_csv(data)
    require_columns(data, header, ("path", "label"))
    return tuple(sorted({line.cells["label"] for line in lines}))


class _Labels:
    """Names to indices, with the two ways in which that can fail."""

    def __init__(self, label_set: LabelSet) -> None:
        if not label_set.names:
            raise ConfigError(
                f"the server does not say the names of label set {label_set.name!r}: "
                "publish it again with `tritonclip-server labels`"
            )
        self.name = label_set.name
        self.count = label_set.labels
        self._indices: dict[str, list[int]] = {}
        for index, name in enumerate(label_set.names):
            self._indices.setdefault(name, []).append(index)

    def find(self, named: Iterable[tuple[str, str]]) -> list[int]:
        """The index of each label of ``(label, how a message calls it)``; one ConfigError lists all that have none."""
        unknown, repeated, found = [], [], []
        for label, called in named:
            indices = self._indices.get(label, [])
            if len(indices) == 1:
                found.append(indices[0])
            elif indices:
                repeated.append(f"{called} (indices {' and '.join(map(str, indices))})")
            else:
                unknown.append(called)
        if unknown:
            raise ConfigError(f"not in label set {self.name!r}: {listed(unknown)}")
        if repeated:
            raise ConfigError(
                f"more than once in label set {self.name!r}, so give an index in the place of the label: "
                f"{listed(repeated)}"
            )
        return found

    def __contains__(self, label: str) -> bool:
        return label in self._indices

    def of_lines(self, lines: Sequence[Line]) -> list[int]:
        """The index of each row, from its column ``index`` or ``label``."""
        if lines and "index" in lines[0].cells:
            return [self._parse(line) for line in lines]
        return self.find((line.cells["label"], f"{line.cells['label']!r} ({line.where})") for line in lines)

    def _parse(self, line: Line) -> int:
        text = line.cells["index"]
        if not (text.isascii() and text.isdigit()) or int(text) >= self.count:
            raise ConfigError(f"{line.where}: {text!r} is no index of label set {self.name!r}: 0 to {self.count - 1}")
        return int(text)


def _read_csv(path: Path, labels: _Labels) -> LabelledImages:
    header, lines = read_csv(path)
    require_columns(path, header, ("path", "label"), ("path", "index"))
    if not lines:
        raise ConfigError(f"{path} has no image")
    seen: dict[str, str] = {}
    for line in lines:
        name = line.cells["path"]
        if not name:
            raise ConfigError(f"{line.where}: no path")
        if name in seen:
            raise ConfigError(f"{line.where}: {name} again; first at {seen[name]}")
        seen[name] = line.where
    images = tuple(
        LabelledImage(line.cells["path"], path.parent / line.cells["path"], index)
        for line, index in zip(lines, labels.of_lines(lines), strict=True)
    )
    return LabelledImages(images, "index in the CSV" if "index" in header else "label in the CSV")


def _read_folders(root: Path, labels: _Labels, class_map: Path | None) -> LabelledImages:
    folders = _class_folders(root)
    indices, matching = _match(root, folders, labels, class_map)
    images: list[LabelledImage] = []
    empty = []
    for folder, index in zip(folders, indices, strict=True):
        paths = _images_below(root / folder)
        images += (LabelledImage(path.relative_to(root).as_posix(), path, index) for path in paths)
        if not paths:
            empty.append(folder)
    if empty:
        raise ConfigError(f"{root}: class folders without an image: {listed(empty)}")
    return LabelledImages(tuple(images), matching)


def _class_folders(root: Path) -> list[str]:
    entries = sorted(entry for entry in root.iterdir() if not entry.name.startswith("."))
    folders = [entry.name for entry in entries if entry.is_dir()]
    loose = [entry.name for entry in entries if is_image_name(entry.name) and not entry.is_dir()]
    if not folders:
        raise ConfigError(f"{root} has no class folders; images must lie in a folder of their class, or give a CSV")
    if loose:
        raise ConfigError(f"{root}: these belong to no class, for they lie in no class folder: {listed(loose)}")
    return folders


def _match(root: Path, folders: list[str], labels: _Labels, class_map: Path | None) -> tuple[list[int], str]:
    """The index of each folder, and how it was found."""
    if class_map is not None:
        known = _read_class_map(class_map, labels)
        if missing := [folder for folder in folders if folder not in known]:
            raise ConfigError(f"{class_map}: no line for these folders of {root}: {listed(missing)}")
        return [known[folder] for folder in folders], f"class map {class_map.name}"
    if all(_WORDNET_ID.fullmatch(folder) and folder not in labels for folder in folders):
        # ImageNet's convention: its classes are numbered in the order of their sorted ids.
        if len(folders) != labels.count:
            raise ConfigError(
                f"{root}: {len(folders)} WordNet ids for the {labels.count} labels of {labels.name!r}; their order "
                "tells the labels only where all are there. Give a class map (folder,index) for a part of them"
            )
        return list(range(len(folders))), "WordNet ids in sorted order"
    try:
        return labels.find((folder, folder) for folder in folders), "folder names"
    except ConfigError as exc:
        raise ConfigError(f"{root}: class folders {exc}. A class map (folder,label or folder,index) tells") from exc


def _read_class_map(path: Path, labels: _Labels) -> dict[str, int]:
    header, lines = read_csv(path)
    require_columns(path, header, ("folder", "label"), ("folder", "index"))
    known: dict[str, int] = {}
    for line, index in zip(lines, labels.of_lines(lines), strict=True):
        if known.setdefault(line.cells["folder"], index) != index:
            raise ConfigError(f"{line.where}: folder {line.cells['folder']!r} again, with another label")
    return known


def _images_below(folder: Path) -> list[Path]:
    def fail(error: OSError) -> None:  # os.walk would pass over a folder that cannot be read
        raise error

    found: list[Path] = []
    for parent, _, files in os.walk(folder, onerror=fail, followlinks=True):
        found += [Path(parent, name) for name in files if is_image_name(name)]
    return sorted(found)
