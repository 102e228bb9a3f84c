"""The shown fine-tuning in its smallest form: all of its steps, with figures that mean nothing."""

from pathlib import Path

from examples.demo_model.finetuning import Shown, show, table
from examples.demo_model.tasks import TASKS, Task


def test_every_step_is_measured_on_both_tasks(tmp_path: Path) -> None:
    textures = TASKS["textures"]
    task = Task(textures.name, textures.labels[:3], textures.draw, has_texts=False)
    shown = Shown(images=8, test_images=2, keep=10, scenes=12, epochs=1, batch=6)
    before, head, tuned, mixed = show(task, tmp_path, shown)
    assert {row.task.trials for row in (before, head, tuned, mixed)} == {6}
    assert {row.scenes.trials for row in (before, head, tuned, mixed)} == {12}
    assert before.scenes == head.scenes
    assert before.scenes.value > 0.8
    assert (tmp_path / "model" / "open_clip_model.safetensors").is_file()
    lines = table([before, head, tuned, mixed]).splitlines()
    assert len(lines) == 6
    assert lines[2].startswith("| before | ")
