"""Labels and templates of a label set: open_clip's built-in ones, or lines of a file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import open_clip

from tritonclip_server.export.errors import BadLabels

BUILT_IN_LABELS: Mapping[str, Sequence[str]] = {"imagenet": open_clip.IMAGENET_CLASSNAMES}
BUILT_IN_TEMPLATES: Mapping[str, Sequence[Callable[[str], str]]] = {
    "openai": open_clip.OPENAI_IMAGENET_TEMPLATES,
    "simple": open_clip.SIMPLE_IMAGENET_TEMPLATES,
}
PLACE = "{}"


@dataclass(frozen=True)
class Prompts:
    """Labels in their order, and the templates that each is put into where they have `{}`."""

    labels: tuple[str, ...]
    templates: tuple[str, ...]

    def of(self, label: str) -> list[str]:
        """The sentences made from a label, one for each template."""
        return [template.replace(PLACE, label) for template in self.templates]


def read_prompts(labels: str, templates: str) -> Prompts:
    """Labels and templates by the name of a built-in list or the path of a UTF-8 file; BadLabels says what is wrong."""
    return Prompts(read_labels(labels), read_templates(templates))


def read_labels(source: str) -> tuple[str, ...]:
    """The labels, one on each line of a file. Two alike would share every probability, so a file may not have them."""
    if source in BUILT_IN_LABELS:
        return tuple(BUILT_IN_LABELS[source])
    numbered = _read_lines(source, BUILT_IN_LABELS)
    first_lines: dict[str, int] = {}
    for number, label in numbered:
        if label in first_lines:
            raise BadLabels(f"{source}, line {number}: {label!r} stands on line {first_lines[label]} already")
        first_lines[label] = number
    return tuple(first_lines)


def read_templates(source: str) -> tuple[str, ...]:
    """The templates, one on each line of a file, each with one `{}`."""
    if source in BUILT_IN_TEMPLATES:
        return tuple(template(PLACE) for template in BUILT_IN_TEMPLATES[source])
    numbered = _read_lines(source, BUILT_IN_TEMPLATES)
    for number, template in numbered:
        if template.count(PLACE) != 1:
            raise BadLabels(f"{source}, line {number}: {template!r} does not have exactly one {PLACE}")
    return tuple(template for _, template in numbered)


def _read_lines(source: str, built_in: Mapping[str, object]) -> list[tuple[int, str]]:
    """The lines of a file that are not blank, stripped, with their numbers from 1."""
    try:
        text = Path(source).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BadLabels(f"{source}: {error.strerror}; give a file, or one of {', '.join(built_in)}") from error
    except UnicodeDecodeError as error:
        raise BadLabels(f"{source}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    # Not splitlines: it also cuts at characters that Triton, reading the labels back, takes for part of a line.
    lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), start=1)]
    numbered = [(number, line) for number, line in lines if line]
    if not numbered:
        raise BadLabels(f"{source}: no line has any text")
    return numbered
