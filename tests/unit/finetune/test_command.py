"""The command from end to end, and the folder that it writes: served like any variant, and mixed again."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import open_clip
import pytest
import torch

from tests import small_tokenizers, text_towers
from tests.parity.test_tokens import captions, take
from tritonclip_server.export.checkpoint import Checkpoint, load_checkpoint
from tritonclip_server.export.cli import main as export
from tritonclip_server.export.interpolation import mix
from tritonclip_server.export.pipeline import Request
from tritonclip_server.export.variants import Variant, resolve, resolve_mixture
from tritonclip_server.finetune.cli import main
from tritonclip_server.finetune.folder import WEIGHTS, model_config, write_folder
from tritonclip_server.finetune.pipeline import TUNED
from tritonclip_server.repository.manifest import read_manifest

RECIPE = ["--epochs", "2", "--batch", "6", "--lr", "1e-3", "--templates", "simple", "--device", "cpu"]


@pytest.fixture(scope="module")
def model(tiny: Callable[[str], Path], colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that keeps its own task, an image of which cannot be read."""
    root = tmp_path_factory.mktemp("finetuned")
    keep = shutil.copytree(colours, root / "keep")
    (keep / "red" / "broken.png").write_text("no image")
    output = root / "mymodel"
    options = ["--output", str(output), "--keep", str(keep), "--keep-loss", "100", "--test", str(colours)]
    assert main([str(tiny("tiny-convnext")), str(colours), *options, *RECIPE]) == 0
    return output


def test_the_folder_has_the_chosen_mixture_and_the_fine_tuned_model(model: Path, tiny: Callable[[str], Path]) -> None:
    report = json.loads((model / "report.json").read_text())
    assert [mixture["alpha"] for mixture in report["mixtures"]] == [tenth / 10 for tenth in range(11)]
    assert set(report["mixtures"][0]) == {"alpha", "validation", "keep", "test"}
    assert report["unreadable"].keys() == {str(model.parent / "keep" / "red" / "broken.png")}
    start, tuned, mixed = (
        load_checkpoint(resolve(str(path))) for path in (tiny("tiny-convnext"), model / TUNED, model)
    )
    assert mixed.preprocessing == start.preprocessing
    expected = mix(start.model.state_dict(), tuned.model.state_dict(), report["chosen_alpha"])
    for name, tensor in mixed.model.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    assert not torch.equal(tuned.model.text_projection, start.model.text_projection)


def test_export_serves_the_folder_and_mixtures_with_it(
    model: Path, tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    common = ["--host", "cpu", "--precision", "fp32", "--if-changed"]
    assert export([str(model), "--into", str(tmp_path / "folder"), *common]) == 0
    start = tiny("tiny-convnext")
    options = ["--interpolate", str(start), str(model / TUNED), "0.3", "--into", str(tmp_path / "mixed"), *common]
    assert export(options) == 0
    served = [read_manifest(tmp_path / name) or {} for name in ("folder", "mixed")]
    assert [manifest["variant"] for manifest in served] == ["mymodel", f"tiny-convnext-{TUNED}-0.3"]
    assert served[0]["weights_sha256"] == load_checkpoint(resolve(str(model))).weights_digest()
    mixture = load_checkpoint(resolve_mixture(str(start), str(model / TUNED), "0.3"))
    assert served[1]["weights_sha256"] == mixture.weights_digest()
    assert len({manifest["fingerprint"] for manifest in served}) == 2


@pytest.mark.usefixtures("architectures")
def test_the_folder_has_what_its_text_side_took_from_the_hub(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_arguments: object) -> None:
        raise KeyboardInterrupt

    hub, start, output = tmp_path / "hub", tmp_path / "start", tmp_path / "model"
    small_tokenizers.train("nllb", take(captions, 300, 3), hub)
    text_towers.write_configuration("small/nllb", hub)
    checkpoint = load_checkpoint(Variant("tiny-nllb", "none"), random=True, tokenizer=hub)
    write_folder(start, model_config(checkpoint), checkpoint.model.state_dict())
    command = [str(start), str(colours), "--output", str(output), *RECIPE, "--epochs", "1"]
    assert main(command) == 1
    assert f"error: the tokenizer of {start.name} does not load" in capsys.readouterr().err
    assert main([*command, "--tokenizer", str(hub), "--text-layers", "1"]) == 1
    assert "error: open_clip cannot freeze these layers" in capsys.readouterr().err
    small_tokenizers.train("nllb", take(captions, 200, 9), tmp_path / "other")
    with monkeypatch.context() as patch:
        patch.setattr("tritonclip_server.finetune.pipeline._mix_and_choose", interrupt)
        assert main([*command, "--tokenizer", str(hub)]) == 130
    text_towers.write_configuration("small/nllb", tmp_path / "other")
    assert main([*command, "--tokenizer", str(tmp_path / "other")]) == 1
    assert "belongs to another run, with other tokenizer:" in capsys.readouterr().err
    assert main([*command, "--tokenizer", str(hub)]) == 0
    for folder in (output, output / TUNED):
        found = load_checkpoint(resolve(str(folder)))
        assert torch.equal(found.tokenizer(["red", "blue"]), checkpoint.tokenizer(["red", "blue"]))
    assert found.weights_digest() != checkpoint.weights_digest()


def test_a_mixture_is_another_one_where_either_model_changed(
    model: Path, tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    """Which `--if-changed` tells by: see tests/unit/export/test_pipeline.py."""
    second = shutil.copytree(model / TUNED, tmp_path / "second")

    def recipe(alpha: str) -> str:
        mixture = resolve_mixture(str(tiny("tiny-convnext")), str(second), alpha)
        return Request(mixture, host="cpu").recipe()

    before = recipe("0.5")
    assert recipe("0.5") == before != recipe("0.6")
    shutil.copy(tiny("tiny-convnext") / WEIGHTS, second)
    assert recipe("0.5") != before


def test_a_finished_folder_is_not_written_over(
    model: Path, tiny: Callable[[str], Path], colours: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tiny("tiny-convnext")), str(colours), "--output", str(model), *RECIPE]) == 1
    assert f"error: {model} holds a model already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--batch", "500"], "fewer than a batch of 500"),
        (["--templates", "none.txt"], "none.txt: No such file"),
        (["--labels", "imagenet"], "blue, green, red"),
        (["--keep", "nowhere"], "nowhere"),
        (["--checkpoint", "weights.pt"], "weights of its own"),
        (["--device", "cuda"], "no CUDA device answers"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    options: list[str],
    words: str,
    tiny: Callable[[str], Path],
    colours: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    output = tmp_path / "model"
    assert main([str(tiny("tiny-convnext")), str(colours), "--output", str(output), *RECIPE, *options]) == 1
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert words in error
    assert not output.exists()


def test_a_model_that_cannot_be_served_is_not_trained(
    tiny: Callable[[str], Path],
    colours: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def other_tokenizer(variant: Variant, **options: Path | None) -> Checkpoint:
        loaded = load_checkpoint(variant, checkpoint=options["checkpoint"])
        return replace(loaded, tokenizer=open_clip.SimpleTokenizer(reduction_mask="random"))

    monkeypatch.setattr("tritonclip_server.finetune.pipeline.load_checkpoint", other_tokenizer)
    assert main([str(tiny("tiny-convnext")), str(colours), "--output", str(tmp_path / "model")]) == 1
    assert "error: text_tokenize truncates" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    "option",
    [
        ["--epochs", "0"],
        ["--lr", "-1"],
        ["--lr", "nan"],
        ["--validation-share", "1"],
        ["--class-map", "map.csv"],
        ["--keep-labels", "imagenet"],
    ],
)
def test_what_makes_no_sense_is_no_option(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["demo", "data", "--output", "model", *option])
    assert option[0] in capsys.readouterr().err
