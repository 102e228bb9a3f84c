"""Procedural scenes: one shape on a background, drawn from four named attributes and seeded jitter.

    attributes (colour, shape, size, background) + jitter (place, scale, turn, tint, noise) ──render──> RGB image

Everything a scene shows follows from its numbers, so an image can be drawn again at any resolution, and a caption can
never be wrong about it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Point = tuple[float, float]
Pixels = npt.NDArray[np.uint8]  # [H, W, 3], RGB
Plane = npt.NDArray[np.float32]

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 30, 35),
    "orange": (250, 135, 10),
    "yellow": (245, 220, 30),
    "green": (30, 150, 50),
    "cyan": (30, 205, 220),
    "blue": (30, 70, 215),
    "purple": (125, 40, 170),
    "pink": (250, 130, 190),
}
SIZES: dict[str, tuple[float, float]] = {"small": (0.32, 0.38), "medium": (0.50, 0.58), "large": (0.72, 0.82)}
"""Widths of a shape, as shares of the image's short side."""

# Never shown in training: what the model makes of them tells whether it composes colour and shape or learns pairs.
HELD_OUT: frozenset[tuple[str, str]] = frozenset(
    {
        ("red", "ring"),
        ("orange", "crescent"),
        ("yellow", "triangle"),
        ("green", "star"),
        ("blue", "heart"),
        ("purple", "square"),
    }
)

MAX_TURN = math.radians(12)
SUPERSAMPLING = 4  # edges are drawn this much larger, then averaged: antialiasing
SHARE_OF_FREE_PLACE = 0.8  # how far from the middle a shape may lie; at 1 it would touch the edge of the centre square


@dataclass(frozen=True)
class Scene:
    """What an image shows, and the jitter that makes it one of many. Lengths are shares of the short side."""

    colour: str
    shape: str
    size: str
    background: str
    width: float
    centre: Point  # from the middle of the image
    turn: float  # radians
    tint: tuple[float, float, float]  # added to the colour, in levels of 0..255
    tones: tuple[float, float]  # the background's two grey levels
    period: float  # of a patterned background
    noise: float  # standard deviation in levels of 0..255
    seed: int  # of the noise

    @property
    def is_held_out(self) -> bool:
        """Whether training never shows this colour on this shape."""
        return (self.colour, self.shape) in HELD_OUT


def draw_scene(rng: np.random.Generator, *, held_out: bool | None = None, large_share: float = 0.0) -> Scene:
    """A scene drawn at random.

    `held_out` True or False keeps to pairs that are or are not held out of training. This share of the scenes is large
    by decree, the others are of any size.
    """
    while True:
        colour, shape = str(rng.choice(list(COLOURS))), str(rng.choice(list(SHAPES)))
        if held_out is None or ((colour, shape) in HELD_OUT) == held_out:
            break
    size = "large" if rng.random() < large_share else str(rng.choice(list(SIZES)))
    return jitter(rng, colour, shape, size, str(rng.choice(list(BACKGROUNDS))))


def jitter(rng: np.random.Generator, colour: str, shape: str, size: str, background: str) -> Scene:
    """A scene with these attributes, everything else drawn at random."""
    width = float(rng.uniform(*SIZES[size]))
    free = SHARE_OF_FREE_PLACE * (1 - width) / 2
    first, second = BACKGROUNDS[background].tones
    return Scene(
        colour=colour,
        shape=shape,
        size=size,
        background=background,
        width=width,
        centre=(float(rng.uniform(-free, free)), float(rng.uniform(-free, free))),
        turn=float(rng.uniform(-MAX_TURN, MAX_TURN)),
        tint=(float(rng.normal(0, 8)), float(rng.normal(0, 8)), float(rng.normal(0, 8))),
        tones=(float(rng.uniform(*first)), float(rng.uniform(*second))),
        period=float(rng.uniform(0.2, 0.3)),
        noise=float(rng.uniform(0, 10)),
        seed=int(rng.integers(2**31)),
    )


def render(scene: Scene, width: int, height: int) -> Pixels:
    """The scene as an RGB image [height, width, 3] uint8, in the middle of whatever aspect ratio is asked for."""
    return paint(scene, _coverage(scene, width, height))


def paint(scene: Scene, coverage: Plane) -> Pixels:
    """The scene's colour where ``coverage`` [height, width, 1] is 1, its background where it is 0, and its noise."""
    height, width, _ = coverage.shape
    background = _background(scene, width, height)
    colour = np.array(COLOURS[scene.colour], np.float32) + np.array(scene.tint, np.float32)
    image = background + coverage * (colour - background)
    noise = np.random.default_rng(scene.seed).standard_normal(image.shape, np.float32)
    return np.clip(image + scene.noise * noise, 0, 255).round().astype(np.uint8)


def placed_outlines(scene: Scene, width: int, height: int) -> tuple[list[Point], list[Point]]:
    """The shape's outline and its hole (empty for none) in pixels of a canvas of this size."""
    scale = min(width, height)
    cosine, sine = math.cos(scene.turn), math.sin(scene.turn)

    def place(points: list[Point]) -> list[Point]:
        return [
            (
                width / 2 + scale * (scene.centre[0] + scene.width * (x * cosine - y * sine)),
                height / 2 + scale * (scene.centre[1] + scene.width * (x * sine + y * cosine)),
            )
            for x, y in points
        ]

    outline, hole = SHAPES[scene.shape]
    return place(outline), place(hole)


def _coverage(scene: Scene, width: int, height: int) -> Plane:
    """How much of each pixel the shape covers, [height, width, 1] in 0..1."""
    mask = Image.new("L", (width * SUPERSAMPLING, height * SUPERSAMPLING), 0)
    pen = ImageDraw.Draw(mask)
    outline, hole = placed_outlines(scene, *mask.size)
    pen.polygon(outline, fill=255)
    if hole:
        pen.polygon(hole, fill=0)
    return shrink(mask) / np.float32(255)


def _background(scene: Scene, width: int, height: int) -> Plane:
    """Grey levels [height, width, 1]: the first tone where the pattern is on, the second elsewhere."""
    scale = scene.period * min(width, height) * SUPERSAMPLING
    x = (np.arange(width * SUPERSAMPLING, dtype=np.float32) / scale)[None, :]
    y = (np.arange(height * SUPERSAMPLING, dtype=np.float32) / scale)[:, None]
    on = np.broadcast_to(BACKGROUNDS[scene.background].pattern(x, y), (y.size, x.size))
    first, second = (np.uint8(round(tone)) for tone in scene.tones)
    return shrink(Image.fromarray(np.where(on, first, second)))


def shrink(drawn: Image.Image) -> Plane:
    """A mask [height, width, 1] in 0..255 of one that was drawn SUPERSAMPLING times as large."""
    return np.asarray(drawn.reduce(SUPERSAMPLING), np.float32)[:, :, None]


# --- outlines, in a square from -0.5 to 0.5, y downwards


def _circle(radius: float, x: float = 0.0, y: float = 0.0, corners: int = 48) -> list[Point]:
    angles = [2 * math.pi * i / corners for i in range(corners)]
    return [(x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles]


def _star(points: int = 5, inner: float = 0.4) -> list[Point]:
    radii = [0.5 if i % 2 == 0 else 0.5 * inner for i in range(2 * points)]
    return [(r * math.sin(math.pi * i / points), -r * math.cos(math.pi * i / points)) for i, r in enumerate(radii)]


def _cross(arm: float = 0.17) -> list[Point]:
    a, b = arm, 0.5
    return [(-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a), (a, b), (-a, b), (-a, a), (-b, a), (-b, -a), (-a, -a)]


def _heart(corners: int = 60) -> list[Point]:
    # The heart curve of Wolfram MathWorld, "Heart Curve", equations (7) and (8), scaled into the square.
    angles = [2 * math.pi * i / corners for i in range(corners)]
    xs = [16 * math.sin(t) ** 3 for t in angles]
    ys = [13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t) for t in angles]
    return [(x / 34, -(y + 2.5) / 34) for x, y in zip(xs, ys, strict=True)]


SHAPES: dict[str, tuple[list[Point], list[Point]]] = {
    "circle": (_circle(0.5), []),
    "square": ([(-0.44, -0.44), (0.44, -0.44), (0.44, 0.44), (-0.44, 0.44)], []),
    "triangle": ([(0.0, -0.48), (0.5, 0.42), (-0.5, 0.42)], []),
    "star": (_star(), []),
    "cross": (_cross(), []),
    "ring": (_circle(0.5), _circle(0.27)),
    "heart": (_heart(), []),
    "crescent": (_circle(0.5), _circle(0.42, x=0.22)),
    "arrow": ([(0, -0.5), (0.45, 0), (0.18, 0), (0.18, 0.5), (-0.18, 0.5), (-0.18, 0), (-0.45, 0)], []),
}
"""An outline and a hole in it (empty for none), by name."""


@dataclass(frozen=True)
class Background:
    """A pattern of two grey tones: `pattern` takes coordinates in periods and says where the first tone is."""

    tones: tuple[tuple[float, float], tuple[float, float]]
    pattern: Callable[[Plane, Plane], npt.NDArray[np.bool_]]


def _everywhere(_x: Plane, y: Plane) -> npt.NDArray[np.bool_]:
    return np.ones((len(y), 1), np.bool_)


def _stripes(_x: Plane, y: Plane) -> npt.NDArray[np.bool_]:
    return y % 1 < 0.5


def _checks(x: Plane, y: Plane) -> npt.NDArray[np.bool_]:
    return (x % 1 < 0.5) ^ (y % 1 < 0.5)


def _dots(x: Plane, y: Plane) -> npt.NDArray[np.bool_]:
    return (x % 1 - 0.5) ** 2 + (y % 1 - 0.5) ** 2 < 0.3**2


BACKGROUNDS: dict[str, Background] = {
    "white": Background(((235, 255), (0, 0)), _everywhere),
    "gray": Background(((110, 150), (0, 0)), _everywhere),
    "black": Background(((0, 20), (0, 0)), _everywhere),
    "striped": Background(((50, 90), (180, 220)), _stripes),
    "checkered": Background(((50, 90), (180, 220)), _checks),
    "dotted": Background(((50, 90), (180, 220)), _dots),
}
