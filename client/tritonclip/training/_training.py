"""A head from labelled images, end to end.

DATA ──_data, _embedding──> Samples to train on, to test on ──_measuring──> Measured ──> Training: a Head, and it
"""

import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from math import isinf
from pathlib import Path
from typing import Any, Final

import numpy as np

from tritonclip import _defaults
from tritonclip._client import Client
from tritonclip._errors import ConfigError
from tritonclip._manifest import Manifest
from tritonclip._version import __version__
from tritonclip.evaluation import read_labelled
from tritonclip.training._cache import FeatureCache
from tritonclip.training._data import Samples, Texts, check_enough, gather, names_of, split, without
from tritonclip.training._embedding import Embedded, embed_labelled, label_vectors, open_cache
from tritonclip.training._head import Head, check_name
from tritonclip.training._measuring import measure
from tritonclip.training._regression import Linear
from tritonclip.training._results import Measured, Training
from tritonclip.training._selection import Trial

_PACKAGES: Final = ("numpy", "scipy")  # that decide the numbers


def train_head(
    client: Client,
    data: Path,
    name: str,
    *,
    cache: Path,
    texts: Texts | None = None,
    test: Path | None = None,
    test_share: float = _defaults.TEST_SHARE,
    seed: int = 0,
    progress: bool = False,
) -> Training:
    """Train a head called ``name`` on labelled images: a folder of class folders, or a CSV with columns path,label.

    With ``texts`` the head starts as their zero-shot classifier, and is held to it as cross-validation finds best;
    without, the labels are those that ``data`` names. It is measured on the labelled images ``test``, else on this
    share of ``data``, which is then not trained on. Vectors are kept in the folder ``cache``. The same data and
    ``seed`` give the same head.

    Raises ConfigError for names, labels and data that cannot be used, ProtocolError where the server's model changes
    during the run, and what ``Client.embed_images`` raises. Images that cannot be embedded are in ``failures``.
    """
    started = time.perf_counter()
    check_name(name)
    if seed < 0:
        raise ConfigError(f"a seed is a whole number from 0, not {seed}")
    classes = texts or names_of(data)
    sources = [read_labelled(source, classes.label_set).images for source in (data, test) if source is not None]
    manifest = client.manifest()
    with open_cache(client, cache) as vectors:
        prior = _prior(client, manifest, classes, vectors, progress=progress)
        embedded = [embed_labelled(client, images, vectors, progress=progress) for images in sources]
        train, tested, left_out = _arrange(classes.labels, embedded, vectors, test_share, seed)
    measured = measure(train, tested, prior, seed)
    head = Head(
        name=name,
        labels=classes.labels,
        fingerprint=str(manifest.fingerprint),
        weight=measured.fit.linear.weight,
        bias=measured.fit.linear.bias,
        temperature=measured.fit.temperature,
        threshold=measured.rejection.threshold if measured.rejection else None,
        made={
            "data": str(data),
            "test": str(test) if test else test_share,
            "seed": seed,
            **_made(classes, train, tested, measured),
        },
    )
    failures = {name: error for each in embedded for name, error in each.failures.items()}
    cached = sum(each.cached for each in embedded)
    seconds = time.perf_counter() - started
    return Training(head, measured, len(train), tested.images, failures, *left_out, cached, seconds)


def _arrange(
    labels: Sequence[str], embedded: list[Embedded], cache: FeatureCache, test_share: float, seed: int
) -> tuple[Samples, Samples, tuple[tuple[str, ...], tuple[str, ...]]]:
    """Images to train on and to test on, no image among both; and the paths of those left out, ``_results`` has why."""
    train, repeated = gather(embedded[0], cache)
    check_enough(train, labels, embedded[0].failures)
    if len(embedded) == 1:
        return *split(train, test_share, seed), (repeated, ())
    others, common = without(embedded[1], embedded[0])
    tested, repeated_others = gather(others, cache)
    return train, tested, (repeated + repeated_others, common)


def _prior(client: Client, manifest: Manifest, classes: Texts, cache: FeatureCache, *, progress: bool) -> Linear:
    """The zero-shot classifier of the labels' texts, at the model's own scale; nothing where there are none."""
    if not classes.templates:
        return Linear.zero(len(classes.labels), cache.width)
    if manifest.logit_scale is None:
        raise ConfigError("the server does not say its logit_scale, without which texts are no classifier")
    vectors = label_vectors(client, classes.labels, classes.templates, cache, progress=progress)
    bias = np.full(len(vectors), manifest.logit_bias or 0.0, np.float32)
    return Linear(vectors * np.float32(manifest.logit_scale), bias)


def _made(classes: Texts, train: Samples, tested: Samples, measured: Measured) -> dict[str, Any]:
    """How a head was made, as JSON has it: an infinite strength, which is the texts' own classifier, is "infinite"."""
    counts = zip(classes.labels, np.bincount(train.labels, minlength=len(classes.labels)).tolist(), strict=True)
    fit = measured.fit
    return {
        "images": {"trained_on": len(train), "tested": len(tested), "by_class": dict(counts)},
        "texts": {"labels": classes.source, "templates": classes.templates} if classes.templates else None,
        "strength": _number(fit.strength),
        "cross_validation": {"folds": fit.folds, "trials": [_trial(each) for each in fit.trials]},
        "accuracy": measured.scores.accuracy.value,
        "zero_shot_accuracy": measured.zero_shot.accuracy.value if measured.zero_shot else None,
        "versions": {"tritonclip": __version__} | {name: metadata.version(name) for name in _PACKAGES},
    }


def _trial(trial: Trial) -> dict[str, Any]:
    return asdict(trial) | {"strength": _number(trial.strength)}


def _number(strength: float) -> float | str:
    """A strength as JSON can have it."""
    return "infinite" if isinf(strength) else strength
