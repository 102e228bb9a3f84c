"""Data sets: what their classes are, what cannot be read, how they are split, and what nothing can be learned from."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.modules import MODELS, load_module
from tritonclip import ConfigError
from tritonclip.evaluation import LabelledImage, find_labels
from tritonclip_server.finetune.data import LabelledSet, Source, read_set, split
from tritonclip_server.finetune.decoding import read_image
from tritonclip_server.finetune.errors import BadData
from tritonclip_server.finetune.processes import Processes

ALONE = Processes(0, 1, torch.device("cpu"))


def read(data: Path, labels: str | None = None, class_map: Path | None = None) -> LabelledSet:
    source = Source(data, labels, class_map)
    return read_set(source, source.classes(), ALONE)


def test_classes_are_those_of_the_folders_or_of_the_csv(colours: Path, tmp_path: Path) -> None:
    table = tmp_path / "data.csv"
    table.write_text("path,label\n" + "".join(f"{path},{path.parent.name}\n" for path in colours.rglob("*.png")))
    assert find_labels(colours) == find_labels(table) == ("blue", "green", "red")
    assert read(colours).counts == read(table).counts == [8, 8, 8]


def test_labels_say_what_folders_are_called_in_prompts(colours: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("crimson\nnavy\nmoss\n")
    (tmp_path / "map.csv").write_text("folder,label\nred,crimson\ngreen,moss\nblue,navy\n")
    data = read(colours, str(tmp_path / "labels.txt"), tmp_path / "map.csv")
    assert data.classes == ("crimson", "navy", "moss")
    assert {image.path.parent.name for image in data.images if image.label == 1} == {"blue"}


def test_files_that_cannot_be_read_are_named_and_left_out(colours: Path, tmp_path: Path) -> None:
    data = shutil.copytree(colours, tmp_path / "colours")
    (data / "red" / "broken.png").write_bytes((data / "red" / "0.png").read_bytes()[:500])
    (data / "blue" / "empty.jpg").touch()
    found = read(data)
    assert found.counts == [8, 8, 8]
    assert found.unreadable.keys() == {str(data / "red" / "broken.png"), str(data / "blue" / "empty.jpg")}
    assert "truncated PNG" in found.unreadable[str(data / "red" / "broken.png")]


def test_processes_look_through_shares_and_know_of_all(colours: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[str] = []

    def look(images: Sequence[LabelledImage], data: Path, processes: Processes) -> dict[str, str]:
        looked_at.extend(image.name for image in images)
        return {}

    monkeypatch.setattr("tritonclip_server.finetune.data._unreadable", look)
    monkeypatch.setattr(Processes, "merged", lambda self, part: part | {"green/3.png": "said by the other one"})
    source = Source(colours)
    for rank in range(2):
        assert read_set(source, source.classes(), Processes(rank, 2, torch.device("cpu"))).counts == [8, 7, 8]
    assert sorted(looked_at) == sorted(path.relative_to(colours).as_posix() for path in colours.rglob("*.png"))


def test_a_split_has_its_share_of_every_class_and_depends_on_the_seed_alone(colours: Path) -> None:
    data = read(colours)
    training, validation = split(data, 0.25, seed=3)
    assert (training.counts, validation.counts) == ([6, 6, 6], [2, 2, 2])
    assert set(training.images) | set(validation.images) == set(data.images)
    assert split(data, 0.25, seed=3) == (training, validation)
    assert split(data, 0.25, seed=4) != (training, validation)
    few, most = split(data, 0.01, seed=0)[1], split(data, 0.99, seed=0)[1]
    assert (few.counts, most.counts) == ([1, 1, 1], [7, 7, 7])


def test_images_are_what_serving_makes_of_them(tmp_path: Path) -> None:
    """Turned by EXIF's orientation, and transparency over white: Pillow's convert("RGB") would do neither."""
    serving = load_module(MODELS / "image_preprocess" / "1" / "preprocess.py")
    turned, clear = tmp_path / "turned.jpg", tmp_path / "clear.png"
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(turned, exif=exif, quality=95)
    image.putalpha(Image.fromarray(np.tile(np.arange(0, 200, 5, dtype=np.uint8), (40, 1))))
    image.save(clear)
    preprocessor = serving.Preprocessor((40, 40), resize="pillow")
    for path in (turned, clear):
        row = np.empty((3, 40, 40), np.uint8)
        preprocessor.fill(row, path.read_bytes())
        np.testing.assert_array_equal(np.asarray(read_image(path)), row.transpose(1, 2, 0))


def test_what_nothing_can_be_learned_from_is_refused(colours: Path, tmp_path: Path) -> None:
    one = tmp_path / "one"
    shutil.copytree(colours / "red", one / "red")
    with pytest.raises(BadData, match="one class, 'red'"):
        split(read(one), 0.2, seed=0)
    (one / "blue").mkdir()
    shutil.copy(colours / "blue" / "0.png", one / "blue")
    with pytest.raises(BadData, match=r"too few are of blue \(1\)"):
        split(read(one), 0.2, seed=0)
    nothing = tmp_path / "nothing" / "red"
    nothing.mkdir(parents=True)
    (nothing / "0.png").write_text("no image")
    with pytest.raises(BadData, match=r"none of 1 images can be read; red/0.png: "):
        read(nothing.parent)
    with pytest.raises(ConfigError, match="no class folders"):
        find_labels(nothing)
