"""Names of variants, and what the command says of wrong ones."""

import open_clip
import pytest

from tritonclip_server.export.cli import main
from tritonclip_server.export.errors import UnknownVariant
from tritonclip_server.export.variants import default_variant, listed_variants, resolve


def test_every_listed_variant_is_one_of_open_clip_at_its_resolution() -> None:
    variants = listed_variants()
    assert len(variants) == 12
    for variant in variants:
        assert variant.pretrained in open_clip.list_pretrained_tags_by_model(variant.architecture)
        config = open_clip.get_model_config(variant.architecture)
        assert config is not None
        assert config["vision_cfg"]["image_size"] == variant.resolution


def test_the_default_is_the_augmented_256_pixel_model() -> None:
    assert default_variant().name == "convnext_base_w-laion2b_s13b_b82k_augreg"


def test_names_and_architecture_with_tag_resolve() -> None:
    for variant in listed_variants():
        assert resolve(variant.name) == variant
        assert resolve(f"{variant.architecture}/{variant.pretrained}").name == variant.name
    assert resolve("ViT-B-32/openai").name == "ViT-B-32-openai"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("convnext", "no variant 'convnext'"),
        ("no-such-net/openai", "no architecture 'no-such-net'"),
        ("ViT-B-32/no_such_tag", "no weights 'no_such_tag' for ViT-B-32; it has openai"),
    ],
)
def test_unknown_names_are_refused_with_what_there_is(name: str, words: str) -> None:
    with pytest.raises(UnknownVariant, match=words):
        resolve(name)


def test_list_prints_every_variant_with_its_facts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for variant in listed_variants():
        (line,) = [line for line in lines if line.split(" ")[0] == variant.name]
        for fact in (variant.architecture, variant.pretrained, str(variant.resolution), variant.training_set):
            assert fact in line
        assert f"{variant.top1} %" in line
