"""Drawn tasks: the same images for the same seed, folders that the client's tools read, labels that the text knows."""

from pathlib import Path

import pytest
from PIL import Image

from examples.demo_model.cli import main
from examples.demo_model.dataset import CLASSES
from examples.demo_model.scenes import HELD_OUT
from examples.demo_model.tasks import TASKS, Task, draw_task


def test_a_task_is_written_as_a_folder_for_each_class(tmp_path: Path) -> None:
    assert main(["task", "held-out", str(tmp_path), "--images", "2", "--seed", "7"]) == 0
    folders = sorted(path.name for path in tmp_path.iterdir() if path.is_dir())
    assert folders == sorted(" ".join(pair) for pair in HELD_OUT)
    assert (tmp_path / "labels.txt").read_text().splitlines() == list(TASKS["held-out"].labels)
    for folder in folders:
        images = sorted((tmp_path / folder).iterdir())
        assert len(images) == 2
        assert all(Image.open(path).format == "JPEG" for path in images)


@pytest.mark.parametrize("name", TASKS)
def test_an_image_depends_on_seed_class_and_number_alone(name: str) -> None:
    few, more = draw_task(_first_labels(name), 1, seed=3), draw_task(_first_labels(name), 2, seed=3)
    assert few[0][1].tobytes() == more[0][1].tobytes()
    assert more[0][1].tobytes() != more[1][1].tobytes()
    assert few[0][1].tobytes() != draw_task(_first_labels(name), 1, seed=4)[0][1].tobytes()


@pytest.mark.parametrize("name", TASKS)
def test_texts_know_the_labels_of_those_tasks_alone_that_say_so(name: str) -> None:
    assert TASKS[name].has_texts == set(TASKS[name].labels).issubset(CLASSES)


def _first_labels(name: str) -> Task:
    task = TASKS[name]
    return Task(name, task.labels[:1], task.draw, task.has_texts)
