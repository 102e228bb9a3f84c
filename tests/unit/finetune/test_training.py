"""Training: batches by their number, a resumed run is the uninterrupted one, and so is one by several processes."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from tests.unit.finetune.test_data import ALONE, read
from tritonclip_server.finetune.batches import Batches
from tritonclip_server.finetune.cli import main
from tritonclip_server.finetune.errors import BadRecipe
from tritonclip_server.finetune.folder import WEIGHTS
from tritonclip_server.finetune.pipeline import TUNED
from tritonclip_server.finetune.processes import Processes
from tritonclip_server.finetune.recipe import Plan, Recipe, fitting_batch
from tritonclip_server.finetune.state import STATE

ROOT = Path(__file__).resolve().parents[3]
RECIPE = Recipe(epochs=4, learning_rate=1e-3, weight_decay=0.1, image_layers=None, text_layers=None, seed=5)


def batches(colours: Path, processes: Processes = ALONE, recipe: Recipe = RECIPE) -> Batches:
    def transform(image: object) -> Tensor:
        return torch.rand(3) + torch.tensor(np.asarray(image, np.float32).mean())

    def tokenizer(captions: list[str]) -> Tensor:
        return torch.tensor([[len(caption)] for caption in captions])

    return Batches(read(colours), ("{}", "a {}"), transform, tokenizer, Plan(recipe, 24, 10), processes)


def test_a_batch_depends_on_its_number_alone(colours: Path) -> None:
    data = batches(colours)
    first, again, other = (data[step] for step in (1, 1, 2))
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.tokens, again.tokens)
    assert not torch.equal(first.images, other.images)
    state = torch.random.get_rng_state()
    data[3]
    assert torch.equal(torch.random.get_rng_state(), state)


def test_an_epoch_shows_each_image_once_at_most_in_an_order_of_its_own(colours: Path) -> None:
    data = batches(colours)
    assert len(data) == 8
    epochs = [np.concatenate([data.indices(step) for step in steps]) for steps in ((0, 1), (2, 3))]
    assert [len(set(epoch)) for epoch in epochs] == [20, 20]
    assert list(epochs[0]) != list(epochs[1])


def test_processes_share_out_a_batch(colours: Path) -> None:
    shares = [batches(colours, Processes(rank, 2, torch.device("cpu")))[3] for rank in range(2)]
    whole = batches(colours)[3]
    assert torch.equal(torch.cat([share.images for share in shares]), whole.images)
    assert torch.equal(torch.cat([share.tokens for share in shares]), whole.tokens)


def test_a_batch_fits_the_data_and_comes_in_equal_parts() -> None:
    assert fitting_batch(None, 100, processes=1, parts=1) == 100
    assert fitting_batch(None, 100, processes=3, parts=2) == 96
    assert fitting_batch(None, 100_000, processes=1, parts=1) == 512
    assert fitting_batch(64, 100, processes=2, parts=4) == 64
    with pytest.raises(BadRecipe, match="multiple of 6"):
        fitting_batch(64, 100, processes=3, parts=2)
    with pytest.raises(BadRecipe, match="100 images to learn from are fewer than a batch of 128"):
        fitting_batch(128, 100, processes=1, parts=1)
    with pytest.raises(BadRecipe, match="fewer than a batch of 8"):
        fitting_batch(None, 5, processes=2, parts=4)


def arguments(model: Path, data: Path, output: Path, *more: str) -> list[str]:
    """A command of 9 steps, 3 an epoch."""
    options = ["--batch", "6", "--lr", "1e-3", "--templates", "simple", "--device", "cpu", "--epochs", "3"]
    return [str(model), str(data), "--output", str(output), *options, *more]


def weights(output: Path) -> dict[str, Tensor]:
    return load_file(output / TUNED / WEIGHTS)


@pytest.fixture(scope="module")
def uninterrupted(tiny: Callable[[str], Path], colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("uninterrupted") / "model"
    assert main(arguments(tiny("tiny-convnext"), colours, output)) == 0
    return output


# The command, which is killed at the moment at which it has kept an epoch: whoever looked on might come too late.
KILLED = """
import os, signal, sys
from tritonclip_server.finetune.cli import main
from tritonclip_server.finetune.state import Run
save = Run.save

def save_and_die(run, steps, **parts):
    save(run, steps, **parts)
    os.kill(os.getpid(), signal.SIGKILL)

Run.save = save_and_die
main(sys.argv[1:])
"""


def test_a_killed_run_goes_on_to_the_very_same_weights(
    uninterrupted: Path, tiny: Callable[[str], Path], colours: Path, tmp_path: Path
) -> None:
    """SIGKILL once an epoch is kept; so the run that goes on is another process, too."""
    command = arguments(tiny("tiny-convnext"), colours, tmp_path / "model")
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    killed = subprocess.run([sys.executable, "-c", KILLED, *command], cwd=ROOT, env=environment)
    assert killed.returncode == -signal.SIGKILL
    state = tmp_path / "model" / STATE
    assert 0 < torch.load(state, weights_only=True)["steps"] < 9
    assert main([*command, "--epochs", "4"]) == 1  # it is not taken for another run
    assert main(command) == 0
    resumed = weights(tmp_path / "model")
    for name, expected in weights(uninterrupted).items():
        assert torch.equal(resumed[name], expected), name
    assert not state.exists()


def test_another_runs_state_is_refused_by_what_differs(
    tiny: Callable[[str], Path],
    colours: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(*_arguments: object) -> None:
        raise KeyboardInterrupt

    command = arguments(tiny("tiny-convnext"), colours, tmp_path / "model")
    with monkeypatch.context() as patch:
        patch.setattr("tritonclip_server.finetune.pipeline._mix_and_choose", interrupt)
        assert main([*command, "--epochs", "1"]) == 130
    assert "goes on" in capsys.readouterr().err
    assert main([*command, "--epochs", "1", "--lr", "0.5", "--seed", "3"]) == 1
    assert "with other images, learning_rate, seed" in capsys.readouterr().err


@pytest.mark.long
def test_two_processes_train_what_one_does(
    uninterrupted: Path, tiny: Callable[[str], Path], colours: Path, tmp_path: Path
) -> None:
    """By torchrun over gloo, in parts besides: what differs is the order in which floats are added up."""
    command = arguments(tiny("tiny-convnext"), colours, tmp_path / "model", "--accumulate", "3")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launch, "-m", "tritonclip_server", "finetune", *command],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("to serve it") == 1
    start = load_file(tiny("tiny-convnext") / WEIGHTS)
    together, alone = weights(tmp_path / "model"), weights(uninterrupted)
    moves = [torch.cat([(side[name] - start[name]).flatten() for name in start]) for side in (together, alone)]
    assert functional.cosine_similarity(moves[0], moves[1], dim=0) > 0.999
    assert (moves[0] - moves[1]).norm() < 0.02 * moves[1].norm()
