"""Data sets that the demonstration model's captions say little of, to train heads on and to fine-tune with.

    task (labels, a drawing of each) ──seed──> a folder of JPEGs for each class, labels.txt

| task | shows | its text |
|---|---|---|
| `hatched` | known shapes in known colours, filled with hatching | knows the labels, and errs in one of three |
| `upside-down` | scenes turned by half a turn | the same; the shapes that have an upper end are lost on it |
| `outlines` | known shapes as bare lines | knows the labels, and sees the colours alone |
| `textures` | patterns that fill the image | has never seen the labels |
| `held-out` | the pairs of colour and shape that training left out | composes them, and hardly errs |
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from examples.demo_model.scenes import (
    BACKGROUNDS,
    COLOURS,
    HELD_OUT,
    SHAPES,
    SIZES,
    SUPERSAMPLING,
    Scene,
    jitter,
    paint,
    placed_outlines,
    render,
    shrink,
)

SIDE: Final = 128  # pixels; the model sees 64
JPEG_QUALITY: Final = 92
TEMPLATE: Final = "a photo of a {}"
LINE_WIDTH, HATCH_PERIOD, HATCH_SHARE = 0.03, 0.1, 0.5  # shares of the image's side, and of the period
DRAWN_COLOURS: Final = ("red", "blue", "green")

Drawing = Callable[[np.random.Generator, str], Image.Image]
Plane = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Task:
    """Labels and how an image of one is drawn; ``has_texts`` where the labels are what the model's captions say."""

    name: str
    labels: tuple[str, ...]
    draw: Drawing
    has_texts: bool


def draw_task(task: Task, images: int, seed: int) -> list[tuple[str, Image.Image]]:
    """So many images of each class, with their labels; an image depends on the seed, its class and its number alone."""
    return [
        (label, task.draw(np.random.default_rng((seed, index, number)), label))
        for index, label in enumerate(task.labels)
        for number in range(images)
    ]


def write_task(task: Task, folder: Path, images: int, seed: int) -> None:
    """Write a task as a folder for each class, and its labels, a line each, into labels.txt."""
    counts = dict.fromkeys(task.labels, 0)
    for label, image in draw_task(task, images, seed):
        place = folder / label
        place.mkdir(parents=True, exist_ok=True)
        image.save(place / f"{seed}-{counts[label]:04}.jpg", quality=JPEG_QUALITY)
        counts[label] += 1
    (folder / "labels.txt").write_text("\n".join(task.labels) + "\n", encoding="utf-8")


# --- known shapes, drawn otherwise


def _scene(rng: np.random.Generator, label: str) -> Scene:
    """A scene of "colour shape"."""
    colour, shape = label.split()
    return jitter(rng, colour, shape, str(rng.choice(list(SIZES))), str(rng.choice(list(BACKGROUNDS))))


def _lines(scene: Scene, mask: Image.Image) -> None:
    pen = ImageDraw.Draw(mask)
    for points in filter(None, placed_outlines(scene, *mask.size)):
        pen.line([*points, *points[:2]], fill=255, width=round(LINE_WIDTH * mask.width), joint="curve")


def _draw_outlines(rng: np.random.Generator, label: str) -> Image.Image:
    scene, mask = _scene(rng, label), _blank()
    _lines(scene, mask)
    return _painted(scene, mask)


def _draw_hatched(rng: np.random.Generator, label: str) -> Image.Image:
    scene, mask = _scene(rng, label), _blank()
    pen = ImageDraw.Draw(mask)
    outline, hole = placed_outlines(scene, *mask.size)
    pen.polygon(outline, fill=255)
    if hole:
        pen.polygon(hole, fill=0)
    along = np.add.outer(np.arange(mask.height), np.arange(mask.width)) / (HATCH_PERIOD * mask.width)
    hatching = (along + rng.uniform()) % 1 < HATCH_SHARE
    return _painted(scene, Image.fromarray(np.asarray(mask) * hatching.astype(np.uint8)))


def _draw_whole(rng: np.random.Generator, label: str) -> Image.Image:
    return Image.fromarray(render(_scene(rng, label), SIDE, SIDE))


def _draw_upside_down(rng: np.random.Generator, label: str) -> Image.Image:
    return _draw_whole(rng, label).transpose(Image.Transpose.ROTATE_180)


def _blank() -> Image.Image:
    return Image.new("L", (SIDE * SUPERSAMPLING, SIDE * SUPERSAMPLING), 0)


def _painted(scene: Scene, mask: Image.Image) -> Image.Image:
    return Image.fromarray(paint(scene, shrink(mask) / np.float32(255)))


# --- patterns, from coordinates in periods


def _turn(x: Plane, y: Plane) -> Plane:
    turn: Plane = np.arctan2(y, x) / (2 * math.pi)
    return turn


def _bricks(x: Plane, y: Plane) -> Plane:
    along = x / 2 + np.floor(y) / 2
    brick: Plane = np.maximum(np.abs(y % 1 - 0.5), 1.2 * np.abs(along % 1 - 0.5)) - 0.38
    return brick


def _honeycomb(x: Plane, y: Plane) -> Plane:
    cell = np.full_like(x, 0.6)
    for angle in (0, 2 * math.pi / 3, 4 * math.pi / 3):
        cell += np.cos(2 * math.pi * (x * math.cos(angle) + y * math.sin(angle)))
    return cell


TEXTURES: dict[str, Callable[[Plane, Plane], Plane]] = {
    "bands": lambda x, y: (y + 0 * x) % 1 - 0.5,
    "waves": lambda x, y: (y + 0.35 * np.sin(math.pi * x)) % 1 - 0.5,
    "zigzag": lambda x, y: (y + np.abs(x % 1 - 0.5)) % 1 - 0.5,
    "chessboard": lambda x, y: ((x % 2 < 1) ^ (y % 2 < 1)) - 0.5,
    "lozenges": lambda x, y: np.abs(x % 1 - 0.5) + np.abs(y % 1 - 0.5) - 0.35,
    "grid": lambda x, y: np.maximum(np.abs(x % 1 - 0.5), np.abs(y % 1 - 0.5)) - 0.38,
    "polka": lambda x, y: np.hypot(x % 1 - 0.5, y % 1 - 0.5) - 0.3,
    "bricks": _bricks,
    "honeycomb": _honeycomb,
    "ripples": lambda x, y: np.hypot(x, y) % 1 - 0.5,
    "rays": lambda x, y: (8 * _turn(x, y)) % 1 - 0.5,
    "spiral": lambda x, y: (np.hypot(x, y) + 2 * _turn(x, y)) % 1 - 0.5,
}
"""Patterns by name: where the value at a place, in periods from about the middle, is below 0, they are painted."""

MAX_TURN, PERIODS = math.pi / 24, (0.25, 0.3)  # radians; shares of the image's side


def _draw_texture(rng: np.random.Generator, label: str) -> Image.Image:
    size = SIDE * SUPERSAMPLING
    angle, period = rng.uniform(-MAX_TURN, MAX_TURN), rng.uniform(*PERIODS) * size
    x, y = np.meshgrid(*((np.arange(size) - size * rng.uniform(0.4, 0.6)) / period for _ in range(2)))
    x, y = x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)
    painted = shrink(Image.fromarray(np.where(TEXTURES[label](x, y) < 0, np.uint8(255), np.uint8(0)))) / 255
    colour = np.array(COLOURS[str(rng.choice(list(COLOURS)))]) + rng.normal(0, 8, 3)
    ground = rng.uniform(220, 255)
    noise = rng.uniform(0, 10) * rng.standard_normal((SIDE, SIDE, 3))
    return Image.fromarray(np.clip(ground + painted * (colour - ground) + noise, 0, 255).round().astype(np.uint8))


_DRAWN = tuple(f"{colour} {shape}" for colour in DRAWN_COLOURS for shape in SHAPES)

TASKS: Final[dict[str, Task]] = {
    task.name: task
    for task in (
        Task("hatched", _DRAWN, _draw_hatched, has_texts=True),
        Task("upside-down", _DRAWN, _draw_upside_down, has_texts=True),
        Task("outlines", _DRAWN, _draw_outlines, has_texts=True),
        Task("textures", tuple(TEXTURES), _draw_texture, has_texts=False),
        Task("held-out", tuple(sorted(" ".join(pair) for pair in HELD_OUT)), _draw_whole, has_texts=True),
    )
}
