"""A small architecture of each family that open_clip builds: published as open_clip computes it, or refused by name.

`python -m tests.sweep.models` does the same to the architectures themselves.
"""

from pathlib import Path

import open_clip
import pytest

from tests import small_tokenizers, text_towers
from tests.parity.test_tokens import captions, take
from tritonclip_server.export.checkpoint import load_checkpoint
from tritonclip_server.export.cli import main
from tritonclip_server.export.errors import TokenizerUnavailable, UnsupportedModel
from tritonclip_server.export.pipeline import Request, export
from tritonclip_server.export.variants import Variant

HUB = {"tiny-siglip2": "gemma", "tiny-clipa": "bert", "tiny-worldwide": "xlm-roberta"}
TEXT_TOWERS = {f"tiny-{kind}": kind for kind in ("roberta", "xlm-roberta", "mt5", "nllb")}
OWN = (
    "tiny-coca",
    "tiny-eva",
    "tiny-mobileclip",
    "tiny-pe",
    "tiny-resnet",
    "tiny-vit-bias",
    "tiny-vitamin",
)


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a folder for each kind of small tokenizer."""
    folder = tmp_path_factory.mktemp("tokenizers")
    for kind in {*HUB.values(), *TEXT_TOWERS.values()}:
        small_tokenizers.train(kind, take(captions, 300, 3), folder / kind)
    for kind in TEXT_TOWERS.values():
        text_towers.write_configuration(f"small/{kind}", folder / kind)
    return folder


@pytest.mark.parametrize("architecture", [*OWN, *HUB, *TEXT_TOWERS])
@pytest.mark.usefixtures("architectures")
def test_it_is_published_as_open_clip_computes_it(architecture: str, tokenizers: Path, tmp_path: Path) -> None:
    kind = (HUB | TEXT_TOWERS).get(architecture)
    tokenizer = None if kind is None else tokenizers / kind
    request = Request(Variant(architecture, "none"), "cpu", precision="fp32", random=True, tokenizer=tokenizer)
    manifest = export(request, tmp_path / "served", report=lambda step: None)
    assert set(manifest["verified"]) == {"image_encoder", "text_encoder"}
    assert min(manifest["verified"].values()) >= 0.99999


@pytest.mark.parametrize(
    ("architecture", "folder", "error", "words"),
    [
        ("tiny-siglip2", "nowhere", TokenizerUnavailable, "no such folder"),
        ("tiny-siglip2", ".", TokenizerUnavailable, "holds no tokenizer that loads"),
        ("tiny-convnext", ".", UnsupportedModel, "open_clip's own tokenizer: leave --tokenizer out"),
    ],
)
@pytest.mark.usefixtures("architectures")
def test_a_folder_that_does_not_serve_is_told(
    architecture: str, folder: str, error: type[Exception], words: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=words):
        load_checkpoint(Variant(architecture, "none"), random=True, tokenizer=tmp_path / folder)


@pytest.mark.usefixtures("architectures")
def test_a_hub_out_of_reach_is_told_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable(*_arguments: object, **_options: object) -> None:
        raise OSError("We couldn't connect to the hub")

    monkeypatch.setattr(open_clip, "get_tokenizer", unreachable)
    assert main(["tiny-siglip2/none", "--random"]) == 1
    said = capsys.readouterr().err
    assert "the tokenizer small/gemma of tiny-siglip2 could not be loaded" in said
    assert "Give --tokenizer DIR" in said
