"""Intervals, accuracy and recall, against known values and against plain recomputations; and the published figures."""

import math
import tomllib
from pathlib import Path

import numpy as np
import pytest

from tritonclip import Manifest
from tritonclip.evaluation import Proportion, _ranks, first_hit_ranks, published_figures
from tritonclip.evaluation._accuracy import class_scores, top_k, worst_confusions

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [  # R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_intervals_are_those_of_the_literature(successes: int, trials: int, low: float, high: float) -> None:
    share = Proportion(successes, trials)
    assert [share.low, share.high] == pytest.approx([low, high], abs=5e-5)
    mirrored = Proportion(trials - successes, trials)
    assert [mirrored.low, mirrored.high] == pytest.approx([1 - share.high, 1 - share.low])


def test_an_interval_ends_where_the_score_test_turns() -> None:
    """The definition: the shares p at which the measured one lies 1.96 standard errors of p away."""
    share = Proportion(35_750, 50_000)
    for end in (share.low, share.high):
        assert abs(share.value - end) / math.sqrt(end * (1 - end) / share.trials) == pytest.approx(1.959964, abs=1e-6)
    assert share.high - share.low == pytest.approx(0.0079, abs=1e-4)


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (-1, 3), (4, 3)])
def test_what_is_no_proportion(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match="no proportion"):
        Proportion(successes, trials)


def test_accuracy_by_hand() -> None:
    answers = [
        (0, (0, 1, 2, 3, 4)),
        (0, (1, 2, 3, 4, 0)),
        (0, (1, 2, 3, 4, 5)),
        (1, (1, 0, 2, 3, 4)),
        (5, (4, 5, 2, 3, 1)),
        (5, (4, 1, 2, 3, 0)),
    ]
    assert top_k(answers, 1) == Proportion(2, 6)
    assert top_k(answers, 5) == Proportion(4, 6)
    scores = [(score.label, score.top1, score.top5) for score in class_scores(answers)]
    assert scores == [
        (5, Proportion(0, 2), Proportion(1, 2)),
        (0, Proportion(1, 3), Proportion(2, 3)),
        (1, Proportion(1, 1), Proportion(1, 1)),
    ]
    confused = [(pair.label, pair.predicted, pair.images) for pair in worst_confusions(answers)]
    assert confused == [(0, 1, Proportion(2, 3)), (5, 4, Proportion(2, 2))]


def test_ranks_by_hand() -> None:
    """Three images and four captions, two of them for image 0; the scores are the cosines of angles."""
    degrees = np.radians([0, 40, 90])
    images = np.stack([np.cos(degrees), np.sin(degrees)], axis=1).astype(np.float32)
    degrees = np.radians([5, 35, 60, 75])
    captions = np.stack([np.cos(degrees), np.sin(degrees)], axis=1).astype(np.float32)
    owners, groups = np.array([0, 0, 1, 1]), np.arange(3)
    # Captions at 5, 35, 60, 75 degrees: the nearest image is their own, image 1, their own, image 2.
    assert first_hit_ranks(captions, owners, images, groups).tolist() == [0, 1, 0, 1]
    # Image 0: its caption at 5 is nearest. Image 1, at 40: 35 is nearest, not its own; then 60, its own.
    assert first_hit_ranks(images[:2], groups[:2], captions, owners).tolist() == [0, 1]
    with pytest.raises(ValueError, match="no rank"):
        first_hit_ranks(images, groups, captions, owners)


@pytest.mark.parametrize("block", [1, 300, 4_000_000])
def test_ranks_are_those_of_a_stable_sort(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_ranks, "_BLOCK_SCORES", block)
    random = np.random.default_rng(3)
    # Small whole numbers, so that scores are exact and many are equal.
    images = random.integers(-2, 3, (40, 3)).astype(np.float32)
    captions = random.integers(-2, 3, (130, 3)).astype(np.float32)
    owners = np.concatenate([np.arange(40), random.integers(0, 40, 90)])
    for queries, wanted, gallery, groups in (
        (images, np.arange(40), captions, owners),
        (captions, owners, images, np.arange(40)),
    ):
        expected = []
        for query, group in zip(queries, wanted, strict=True):
            scores = [sum(float(a) * float(b) for a, b in zip(query, answer, strict=True)) for answer in gallery]
            order = sorted(range(len(gallery)), key=lambda position: -scores[position])
            expected.append(next(rank for rank, position in enumerate(order) if groups[position] == group))
        assert first_hit_ranks(queries, wanted, gallery, groups).tolist() == expected


def test_a_model_that_tells_nothing_apart_is_no_better_than_chance() -> None:
    same = np.ones((20, 4), dtype=np.float32)
    assert sorted(first_hit_ranks(same, np.arange(20), same, np.arange(20))) == list(range(20))


def manifest(**facts: object) -> Manifest:
    return Manifest.from_document(
        {"variant": "convnext_base_w-laion2b_s13b_b82k_augreg", "image_size": 256, "random_weights": False} | facts
    )


def test_published_figures_of_the_deployed_model() -> None:
    published = published_figures(manifest(), "imagenet")
    assert (published.percent, published.images) == ({"top-1": 71.5}, 50_000)
    assert "model card" in published.note
    coco = published_figures(manifest(), "coco")
    assert (coco.percent["text-to-image recall@1"], coco.percent["image-to-text recall@1"]) == (43.03, 61.40)
    flickr = published_figures(manifest(), "flickr30k")
    assert (flickr.percent["text-to-image recall@1"], flickr.percent["image-to-text recall@1"]) == (72.40, 87.30)


def test_a_figure_belongs_to_its_resolution_and_its_weights() -> None:
    augreg = "convnext_base_w_320-laion_aesthetic_s13b_b82k_augreg"
    for size, top1 in ((320, 71.3), (384, 72.2)):
        assert published_figures(manifest(variant=augreg, image_size=size), "imagenet").percent == {"top-1": top1}
    for facts, words in (
        ({"variant": augreg, "image_size": 256}, "320 px and 384 px, and 256 px are deployed"),
        ({"random_weights": True}, "random weights"),
        ({"variant": "demo"}, "no published figure of demo on imagenet"),
    ):
        published = published_figures(manifest(**facts), "imagenet")
        assert published.percent == {}
        assert words in published.note


def test_published_accuracies_are_those_of_the_exporters_list() -> None:
    """The two files stand in packages that do not import each other."""
    listed = tomllib.loads(
        (ROOT / "server" / "tritonclip_server" / "export" / "variants.toml").read_text(encoding="utf-8")
    )["variant"]
    assert len(listed) == 12
    for entry in listed:
        deployed = manifest(variant=f"{entry['architecture']}-{entry['pretrained']}", image_size=entry["resolution"])
        assert published_figures(deployed, "imagenet").percent == {"top-1": entry["top1"]}
        assert len(published_figures(deployed, "coco").percent) == len(published_figures(deployed, "flickr30k").percent)
