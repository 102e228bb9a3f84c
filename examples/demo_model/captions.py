"""Captions of scenes, at several levels of detail.

    scene ──describe(level)──> description ("red", "circle", …) ──caption(template)──> "a photo of a red circle."

A description is the tuple of what a caption names. Two scenes with the same description at one level are both right
answers to the same caption, which is why a training batch keeps to one level: its descriptions then tell exactly which
pairs match.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from open_clip import OPENAI_IMAGENET_TEMPLATES

from examples.demo_model.scenes import Scene

Description = tuple[str, ...]

# For half of the captions; the others use the 80 of OpenAI's ImageNet classifier ("a blurry photo of the {}."), so
# that the usual prompts work.
PLAIN_TEMPLATES: tuple[Callable[[str], str], ...] = (
    lambda thing: thing,
    lambda thing: _with_article(thing),
    lambda thing: f"a photo of {_with_article(thing)}",
    lambda thing: f"a picture of {_with_article(thing)}",
    lambda thing: f"an image of {_with_article(thing)}.",
    lambda thing: f"there is {_with_article(thing)}",
    lambda thing: f"this is {_with_article(thing)}.",
)


@dataclass(frozen=True)
class Level:
    """How much a caption says: `describe` picks what it names, `phrase` puts that into words."""

    name: str
    share: float  # of the training batches
    describe: Callable[[Scene], Description]
    phrase: Callable[[Description], str]


LEVELS: tuple[Level, ...] = (
    Level("colour", 0.08, lambda s: (s.colour,), lambda d: f"{d[0]} shape"),
    Level("shape", 0.08, lambda s: (s.shape,), lambda d: d[0]),
    Level("class", 0.34, lambda s: (s.colour, s.shape), lambda d: f"{d[0]} {d[1]}"),
    Level("size", 0.15, lambda s: (s.size, s.colour, s.shape), lambda d: f"{d[0]} {d[1]} {d[2]}"),
    Level(
        "background",
        0.15,
        lambda s: (s.colour, s.shape, s.background),
        lambda d: f"{d[0]} {d[1]} on a {d[2]} background",
    ),
    Level(
        "everything",
        0.20,
        lambda s: (s.size, s.colour, s.shape, s.background),
        lambda d: f"{d[0]} {d[1]} {d[2]} on a {d[3]} background",
    ),
)


def full_phrase(scene: Scene) -> str:
    """Everything that can be said of a scene, without a template: "large red circle on a striped background"."""
    level = LEVELS[-1]
    return level.phrase(level.describe(scene))


def caption_batch(scenes: Sequence[Scene], rng: np.random.Generator) -> tuple[list[str], list[int]]:
    """The distinct captions of a batch at one level drawn at random, and for each scene the index of its own.

    Every description gets one template, so that scenes described alike share a caption, to be encoded once.
    """
    level = LEVELS[rng.choice(len(LEVELS), p=[level.share for level in LEVELS])]
    descriptions = [level.describe(scene) for scene in scenes]
    distinct = list(dict.fromkeys(descriptions))
    captions = [_draw_template(rng)(level.phrase(description)) for description in distinct]
    return captions, [distinct.index(description) for description in descriptions]


def _draw_template(rng: np.random.Generator) -> Callable[[str], str]:
    templates = PLAIN_TEMPLATES if rng.random() < 0.5 else OPENAI_IMAGENET_TEMPLATES
    return templates[rng.integers(len(templates))]


def _with_article(thing: str) -> str:
    return f"{'an' if thing[0] in 'aeiou' else 'a'} {thing}"
