"""Scenes, their captions and their files: what is drawn is what is said."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from examples.demo_model.captions import LEVELS, Level, caption_batch, full_phrase
from examples.demo_model.cli import SAMPLE_COUNT, SAMPLE_SEED
from examples.demo_model.dataset import CLASSES, MAX_DISTINCT, class_name, draw_scenes, write_dataset
from examples.demo_model.scenes import BACKGROUNDS, COLOURS, HELD_OUT, SHAPES, SIZES, Scene, draw_scene, jitter, render

SAMPLES = Path(__file__).resolve().parents[3] / "samples" / "scenes"


def clean(scene: Scene) -> Scene:
    return replace(scene, noise=0.0, tint=(0.0, 0.0, 0.0))


def coloured(scene: Scene, width: int, height: int) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """The pixels that have the scene's colour; backgrounds are grey."""
    found = np.abs(render(clean(scene), width, height).astype(int) - COLOURS[scene.colour]).max(axis=2) <= 2
    return np.asarray(found)


def test_a_scene_is_the_same_every_time() -> None:
    first, again = (draw_scene(np.random.default_rng(3)) for _ in range(2))
    assert first == again
    np.testing.assert_array_equal(render(first, 80, 60), render(again, 80, 60))
    assert draw_scene(np.random.default_rng(4)) != first


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", SIZES)
def test_a_shape_has_its_colour_its_width_and_its_place(shape: str, size: str) -> None:
    for seed, (colour, background) in enumerate(zip(COLOURS, list(BACKGROUNDS) * 2, strict=False)):
        scene = replace(jitter(np.random.default_rng(seed), colour, shape, size, background), turn=0.0)
        for canvas in ((240, 240), (320, 240), (200, 300)):
            rows, columns = np.nonzero(coloured(scene, *canvas))
            side = min(canvas)
            extent = max(np.ptp(rows), np.ptp(columns)) / side
            assert 0.8 * scene.width <= extent <= scene.width + 0.02
            low, high = SIZES[size]
            assert low <= scene.width <= high
            for axis, length in ((rows, canvas[1]), (columns, canvas[0])):  # inside the centre square
                assert (length - side) / 2 <= axis.min()
                assert axis.max() <= (length + side) / 2


def test_a_image_is_the_same_at_every_size() -> None:
    for number, scene in enumerate(draw_scenes(9, 12)):
        large = Image.fromarray(render(clean(scene), 256, 256)).resize((64, 64), Image.Resampling.BOX)
        small = render(clean(scene), 64, 64)
        assert np.abs(np.asarray(large, int) - small).mean() < 3, number


def test_held_out_pairs_are_drawn_only_where_they_are_wanted() -> None:
    rng = np.random.default_rng(0)
    assert all((s.colour, s.shape) not in HELD_OUT for s in (draw_scene(rng, held_out=False) for _ in range(500)))
    assert all(s.is_held_out for s in (draw_scene(rng, held_out=True) for _ in range(50)))
    assert {s.size for s in (draw_scene(rng, large_share=1.0) for _ in range(50))} == {"large"}
    colours, shapes = zip(*HELD_OUT, strict=True)
    # Every colour and shape of them is seen in training, in other pairs.
    assert len(set(colours)) == len(colours)
    assert len(set(shapes)) == len(shapes)
    assert len(CLASSES) >= 64


def test_scenes_described_alike_share_a_caption_and_others_do_not() -> None:
    scenes = draw_scenes(1, 128)
    seen = set()
    for seed in range(60):
        captions, groups = caption_batch(scenes, np.random.default_rng(seed))
        assert len(set(captions)) == len(captions)
        (level,) = [level for level in LEVELS if groups == groups_at(level, scenes)]
        seen.add(level.name)
        for scene, group in zip(scenes, groups, strict=True):
            assert all(word in captions[group] for word in level.describe(scene))
    assert seen == {level.name for level in LEVELS}
    assert sum(level.share for level in LEVELS) == pytest.approx(1)


def groups_at(level: Level, scenes: list[Scene]) -> list[int]:
    """For each scene the number of its description, in the order in which they come up."""
    descriptions = [level.describe(scene) for scene in scenes]
    return [list(dict.fromkeys(descriptions)).index(description) for description in descriptions]


def test_distinct_captions() -> None:
    scenes = draw_scenes(1, 200, distinct=True)
    assert len({full_phrase(scene) for scene in scenes}) == 200
    with pytest.raises(ValueError, match="cannot all have captions of their own"):
        draw_scenes(1, MAX_DISTINCT + 1, distinct=True)


def test_the_samples_are_what_the_generator_writes(tmp_path: Path) -> None:
    scenes = draw_scenes(SAMPLE_SEED, SAMPLE_COUNT, distinct=True)
    write_dataset(scenes, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in SAMPLES.iterdir())
    for name in ("labels.csv", "captions.csv", "classes.txt"):
        assert (tmp_path / name).read_text() == (SAMPLES / name).read_text()
    with (SAMPLES / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    for scene, row in zip(scenes, rows, strict=True):
        assert row["label"] == class_name(scene)
        assert row["path"].startswith(row["label"].replace(" ", "-"))
        stored, written = (np.asarray(Image.open(folder / row["path"]), int) for folder in (SAMPLES, tmp_path))
        assert np.abs(stored - written).mean() < 1  # not to the bit: JPEG encoders may differ
    with Image.open(SAMPLES / "contact-sheet.png") as sheet:
        assert sheet.format == "PNG"
