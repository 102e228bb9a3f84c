"""Text towers of transformers: features are those of the whole context, and what cannot be served is said."""

import json
import shutil
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from open_clip.hf_model import MaxPooler
from transformers import AutoConfig, DistilBertConfig

from tests import small_tokenizers, text_towers
from tests.parity.test_tokens import captions, take
from tritonclip_server.export import hugging_face
from tritonclip_server.export.checkpoint import Checkpoint, load_checkpoint
from tritonclip_server.export.encoders import TextEncoder
from tritonclip_server.export.errors import UnsupportedModel, WeightsUnavailable
from tritonclip_server.export.hugging_face import CONFIG
from tritonclip_server.export.pipeline import deployment_of
from tritonclip_server.export.tokenizer import tokenizer_settings
from tritonclip_server.export.tracing import trace
from tritonclip_server.export.variants import LocalVariant, Variant
from tritonclip_server.export.warmup import write_warmup_texts
from tritonclip_server.finetune.folder import model_config, write_folder, write_text_files

KINDS = ("roberta", "xlm-roberta", "mt5", "nllb")
CONTEXT = 77


@pytest.fixture(scope="module")
def folders(architectures: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For each kind a folder as on the hub: a tokenizer, and the configuration of a small text tower."""
    root = tmp_path_factory.mktemp("towers")
    for kind in KINDS:
        small_tokenizers.train(kind, take(captions, 300, 3), root / kind)
        text_towers.write_configuration(f"small/{kind}", root / kind)
    return root


def tokenizer_alone(folder: Path, into: Path) -> Path:
    """A copy without the text tower's configuration."""
    copy = shutil.copytree(folder, into / "tokenizer")
    (copy / CONFIG).unlink()
    return copy


def load(kind: str, folders: Path) -> Checkpoint:
    return load_checkpoint(Variant(f"tiny-{kind}", "none"), random=True, tokenizer=folders / kind)


def texts_of_every_length(checkpoint: Checkpoint) -> torch.Tensor:
    """Rows of any ids that end at each place there is; half of them have an end or padding in their midst, too."""
    end, pad = tokenizer_settings(checkpoint.tokenizer).end_id, checkpoint.model.text.config.pad_token_id
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(5, 3000, (CONTEXT, CONTEXT), generator=generator, dtype=torch.int32)
    for row, last in enumerate(torch.randperm(CONTEXT, generator=generator).tolist()):
        if row % 2:
            tokens[row, last // 2] = (end, pad)[row // 2 % 2]
        tokens[row, last], tokens[row, last + 1 :] = end, pad
    return tokens


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_features_are_open_clips_of_the_whole_context_in_whatever_company(
    kind: str, folders: Path, tmp_path: Path
) -> None:
    checkpoint = load(kind, folders)
    tokens = texts_of_every_length(checkpoint)
    expected = checkpoint.model.encode_text(tokens.long(), normalize=True)
    encoder = TextEncoder(checkpoint.model, torch.float32).eval()
    assert encoder.lengths == [16, 32, CONTEXT]
    trace(encoder, (tokens[:2],), tmp_path / "model.pt")
    served: Any = torch.jit.load(tmp_path / "model.pt")  # type: ignore[no-untyped-call]
    for size in (1, CONTEXT):
        features = torch.cat([served(part) for part in torch.split(tokens, size)])
        torch.testing.assert_close(features, expected, atol=2e-6, rtol=0)
    foreign = tokens[:3].clone()
    foreign[1, 5] = encoder.vocabulary
    assert served(foreign).isnan().all(dim=-1).tolist() == [False, True, False]


@pytest.mark.parametrize("kind", KINDS)
def test_warm_up_texts_meet_every_length(kind: str, folders: Path, tmp_path: Path) -> None:
    checkpoint = load(kind, folders)
    (tmp_path / "text_encoder").mkdir()
    write_warmup_texts(tmp_path, deployment_of(checkpoint, "gpu"))
    files = sorted((tmp_path / "text_encoder" / "warmup").iterdir())
    tokens = torch.stack([torch.frombuffer(bytearray(file.read_bytes()), dtype=torch.int32) for file in files])
    ends = TextEncoder(checkpoint.model, torch.float32).ends(tokens)
    assert {file.name: int(end) + 1 for file, end in zip(files, ends, strict=True)} == {
        "ends_at_16": 16, "ends_at_32": 32, "ends_last": CONTEXT,
    }  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_with_all_that_the_hub_would_give_needs_no_hub(kind: str, folders: Path, tmp_path: Path) -> None:
    checkpoint = load(kind, folders)
    write_folder(tmp_path / "model", model_config(checkpoint), checkpoint.model.state_dict())
    write_text_files(tmp_path / "model", checkpoint)
    variant = LocalVariant("model", "local", tmp_path / "model")
    loaded = load_checkpoint(variant)
    assert loaded.weights_digest() == checkpoint.weights_digest()
    given = load_checkpoint(variant, tokenizer=tokenizer_alone(folders / kind, tmp_path))
    assert given.weights_digest() == checkpoint.weights_digest()
    texts = ["a cat", "two dogs"]
    assert torch.equal(loaded.tokenizer(texts), checkpoint.tokenizer(texts))


@pytest.mark.parametrize("content", [None, {"model_type": "clip"}, {}], ids=["none", "another", "empty"])
def test_a_configuration_out_of_reach_is_told_with_the_remedy(
    content: object, folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder may hold the config.json of something else, as repositories of the hub do."""

    def unreachable(name: str) -> None:
        raise OSError(f"We couldn't connect to the hub to load {name}")

    monkeypatch.setattr(AutoConfig, "from_pretrained", unreachable)
    tokenizer = tokenizer_alone(folders / "xlm-roberta", tmp_path)
    if content is not None:
        (tokenizer / CONFIG).write_text(json.dumps(content))
    words = (
        r"text tower small/xlm-roberta could not be read from small/xlm-roberta .*to load small/xlm-roberta.*Give --tok"
    )
    with pytest.raises(WeightsUnavailable, match=words):
        hugging_face.text_config(open_clip.get_model_config("tiny-xlm-roberta"), [tokenizer])


def test_towers_of_other_types_and_poolers_are_refused_by_name(folders: Path, tmp_path: Path) -> None:
    DistilBertConfig().save_pretrained(tmp_path / "distilbert")
    other = {"text_cfg": {"hf_model_name": str(tmp_path / "distilbert")}}
    with pytest.raises(UnsupportedModel, match=r"of type distilbert .*served are roberta, xlm-roberta, mt5, m2m_100"):
        hugging_face.text_config(other, [])
    checkpoint = load("roberta", folders)
    checkpoint.model.text.pooler = MaxPooler()
    with pytest.raises(UnsupportedModel, match="pools by MaxPooler"):
        TextEncoder(checkpoint.model, torch.float32)
