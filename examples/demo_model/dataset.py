"""Scenes as files: images of several aspect ratios with their labels and captions, and a contact sheet of them."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from examples.demo_model.captions import full_phrase
from examples.demo_model.scenes import BACKGROUNDS, COLOURS, SHAPES, SIZES, Scene, draw_scene, render

CANVASES = ((320, 240), (240, 320), (360, 200), (256, 256))  # width, height in pixels, in turn
MAX_DISTINCT = len(COLOURS) * len(SHAPES) * len(SIZES) * len(BACKGROUNDS) // 2
CLASSES: tuple[str, ...] = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
JPEG_QUALITY = 92
SHEET_COLUMNS, SHEET_SCENES, TILE, CAPTION_HEIGHT = 8, 96, 128, 14  # the last two in pixels


def draw_scenes(seed: int, count: int, *, distinct: bool = False) -> list[Scene]:
    """So many scenes, held-out pairs among them; where they are to be distinct, no two have the same caption.

    Raises ValueError for more distinct scenes than half of the captions there are: the last ones would take for ever.
    """
    if distinct and count > MAX_DISTINCT:
        raise ValueError(f"{count} scenes cannot all have captions of their own; {MAX_DISTINCT} can")
    rng = np.random.default_rng(seed)
    scenes: list[Scene] = []
    seen: set[str] = set()
    while len(scenes) < count:
        scene = draw_scene(rng)
        if not distinct or full_phrase(scene) not in seen:
            seen.add(full_phrase(scene))
            scenes.append(scene)
    return scenes


def scene_image(scene: Scene, number: int) -> Image.Image:
    """The scene on the canvas whose turn it is."""
    return Image.fromarray(render(scene, *CANVASES[number % len(CANVASES)]))


def class_name(scene: Scene) -> str:
    """The scene's label."""
    return f"{scene.colour} {scene.shape}"


def write_dataset(scenes: Sequence[Scene], folder: Path) -> None:
    """Write scenes as JPEGs into a folder, with what there is to say of them.

    That is labels.csv (path,label), captions.csv (path,caption), classes.txt (every label there could be) and
    contact-sheet.png.
    """
    folder.mkdir(parents=True, exist_ok=True)
    digits = max(2, len(str(len(scenes))))
    names = [f"{s.colour}-{s.shape}-{number + 1:0{digits}}.jpg" for number, s in enumerate(scenes)]
    for number, (scene, name) in enumerate(zip(scenes, names, strict=True)):
        scene_image(scene, number).save(folder / name, quality=JPEG_QUALITY)
    _write_csv(folder / "labels.csv", "label", names, [class_name(scene) for scene in scenes])
    _write_csv(folder / "captions.csv", "caption", names, [f"a photo of a {full_phrase(scene)}" for scene in scenes])
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n", encoding="utf-8")
    contact_sheet(scenes).save(folder / "contact-sheet.png", optimize=True)


def contact_sheet(scenes: Sequence[Scene]) -> Image.Image:
    """The first scenes with their labels on one sheet."""
    scenes = scenes[:SHEET_SCENES]
    rows = -(-len(scenes) // SHEET_COLUMNS)
    sheet = Image.new("RGB", (SHEET_COLUMNS * TILE, rows * (TILE + CAPTION_HEIGHT)), "white")
    pen = ImageDraw.Draw(sheet)
    for number, scene in enumerate(scenes):
        left, top = number % SHEET_COLUMNS * TILE, number // SHEET_COLUMNS * (TILE + CAPTION_HEIGHT)
        sheet.paste(Image.fromarray(render(scene, TILE - 4, TILE - 4)), (left + 2, top + 2))
        pen.text((left + 4, top + TILE - 1), class_name(scene), fill="black")
    return sheet


def _write_csv(path: Path, column: str, names: Sequence[str], values: Sequence[str]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", column])
        writer.writerows(zip(names, values, strict=True))
