"""Training: the loss is open_clip's, a resumed run is the uninterrupted one, and the command writes what is served."""

from pathlib import Path
from typing import Any

import pytest
import torch
from open_clip.loss import ClipLoss
from torch.nn import functional

from examples.demo_model import loop
from examples.demo_model.cli import main
from examples.demo_model.loop import Batches, MatchingClipLoss, Recipe, learning_rate, train
from examples.demo_model.model import CONFIG_NAME, FOLDER, WEIGHTS_NAME, new_model, read_config
from tritonclip_server.export.checkpoint import load_checkpoint
from tritonclip_server.export.errors import UnsupportedModel
from tritonclip_server.export.variants import LocalVariant, resolve
from tritonclip_server.resources import DEMO

RECIPE = Recipe(steps=4, batch=6, warmup_steps=1)


def features(count: int, seed: int) -> torch.Tensor:
    return functional.normalize(torch.randn(count, 8, generator=torch.Generator().manual_seed(seed)))


def test_with_distinct_captions_the_loss_is_open_clips() -> None:
    loss = MatchingClipLoss()
    loss.groups = torch.tensor([3, 0, 2, 1, 4])
    arguments = features(5, 0), features(5, 1), torch.tensor(14.0)
    torch.testing.assert_close(loss(*arguments), ClipLoss()(*arguments))


def test_images_with_the_same_caption_are_all_right_answers() -> None:
    loss = MatchingClipLoss()
    loss.groups = torch.tensor([0, 1, 0])
    images, texts = features(3, 0), features(2, 1)[torch.tensor([0, 1, 0])]
    logits = 14.0 * images @ texts.T
    targets = torch.tensor([[0.5, 0, 0.5], [0, 1, 0], [0.5, 0, 0.5]])
    expected = -(targets * logits.log_softmax(1)).sum(1).mean() - (targets * logits.T.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(loss(images, texts, torch.tensor(14.0)), expected / 2)


def test_a_batch_depends_on_its_number_alone_and_shows_no_held_out_pair() -> None:
    batches = Batches(Recipe(), 64, lambda captions: torch.zeros(len(captions), 77))
    first, again, other = batches[7], batches[7], batches[8]
    torch.testing.assert_close(first.images, again.images)
    assert not torch.equal(first.images, other.images)
    assert first.images.shape == (128, 3, 64, 64)
    assert 0 <= first.images.min() <= first.images.max() <= 1


def test_the_schedule() -> None:
    recipe = Recipe(steps=100, warmup_steps=10, learning_rate=1.0, curriculum=0.5)
    rates = [learning_rate(recipe, step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == 1.0
    assert rates[100] == pytest.approx(0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert [recipe.large_share(step) for step in (0, 25, 50, 99)] == [1.0, 0.5, 0.0, 0.0]


def run(folder: Path, recipe: Recipe = RECIPE, stop_at: int | None = None) -> Any:
    """Train in a folder, interrupted after the checkpoint at step `stop_at`; returns the model."""
    torch.manual_seed(recipe.seed)
    model = new_model(read_config())

    def checkpoint(done: int) -> None:
        if done == stop_at:
            raise KeyboardInterrupt

    train(model, read_config(), recipe, folder / "state.pt", checkpoint)
    return model


def test_a_resumed_training_is_the_uninterrupted_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_STEPS", 2)
    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "resumed", stop_at=2)
    resumed = run(tmp_path / "resumed")
    untrained = new_model(read_config())
    for (name, expected), found in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        torch.testing.assert_close(found, expected, msg=name)
    assert not torch.equal(whole.text_projection, untrained.text_projection)
    with pytest.raises(ValueError, match="another recipe"):
        run(tmp_path / "resumed", Recipe(steps=4, batch=6, warmup_steps=1, seed=9))


def test_the_command_trains_writes_and_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("examples.demo_model.cli.measure", lambda model, scenes=0: {"zero_shot_top1": scenes})
    monkeypatch.setattr("examples.demo_model.cli.Recipe", lambda steps: Recipe(steps=steps, batch=4, warmup_steps=1))
    monkeypatch.setattr("examples.demo_model.cli.parser", parser_with_a_number_of_steps(monkeypatch))
    (tmp_path / CONFIG_NAME).write_text((FOLDER / CONFIG_NAME).read_text())
    arguments = ["train", "--steps", "2", "--folder", str(tmp_path), "--state", str(tmp_path / "state.pt")]
    assert main(arguments) == 0
    assert (tmp_path / "quality.json").is_file()
    checkpoint = load_checkpoint(resolve(str(tmp_path)))
    assert checkpoint.variant.name == tmp_path.name
    assert checkpoint.model.text_projection.dtype == torch.float32
    assert main(["train", "--steps", "3", *arguments[3:]]) == 1
    assert "another recipe" in capsys.readouterr().err
    assert main(["train", "--steps", "3", *arguments[3:], "--restart"]) == 0


def parser_with_a_number_of_steps(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command's parser, made before Recipe was replaced: its default is a class attribute."""
    from examples.demo_model.cli import parser

    with monkeypatch.context() as patch:
        patch.setattr("examples.demo_model.cli.Recipe", Recipe)
        made = parser()
    return lambda: made


def test_demo_is_a_variant_of_at_most_10_mb() -> None:
    variant = resolve("demo")
    assert isinstance(variant, LocalVariant)
    assert (variant.name, variant.folder) == ("demo", DEMO)
    assert resolve(str(DEMO)) == variant
    assert FOLDER == DEMO
    assert (DEMO / WEIGHTS_NAME).stat().st_size <= 10_000_000
    config = read_config()["model_cfg"]
    assert config["text_cfg"]["context_length"] == 77
    assert config["vision_cfg"]["timm_model_name"].startswith("convnext")
    for options in ({"random": True}, {"checkpoint": DEMO / WEIGHTS_NAME}):
        with pytest.raises(UnsupportedModel, match="weights of its own"):
            load_checkpoint(variant, **options)
