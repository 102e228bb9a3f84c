"""Labels and templates: what is read, and how a bad file is refused."""

from pathlib import Path

import open_clip
import pytest

from tritonclip_server.export.errors import BadLabels
from tritonclip_server.export.label_sources import Prompts, read_labels, read_prompts, read_templates


def test_the_built_in_lists_are_open_clips() -> None:
    prompts = read_prompts("imagenet", "openai")
    assert list(prompts.labels) == list(open_clip.IMAGENET_CLASSNAMES)
    assert len(prompts.labels) == 1000
    assert len(prompts.templates) == 80
    assert prompts.of("tench") == [template("tench") for template in open_clip.OPENAI_IMAGENET_TEMPLATES]
    assert Prompts(("a",), read_templates("simple")).of("b") == [t("b") for t in open_clip.SIMPLE_IMAGENET_TEMPLATES]


def test_files_are_read_line_by_line(tmp_path: Path) -> None:
    labels, templates = tmp_path / "labels.txt", tmp_path / "templates.txt"
    labels.write_bytes("\ufeffein Bär\r\n\r\n  a cat: grey  \na\u2028b\nc\x85\x0b\x1cd\rold Mac\r".encode())
    templates.write_text("a photo of a {}.\n{}\n")
    prompts = read_prompts(str(labels), str(templates))
    assert prompts.labels == ("ein Bär", "a cat: grey", "a\u2028b", "c\x85\x0b\x1cd", "old Mac")
    assert prompts.of("{x}") == ["a photo of a {x}.", "{x}"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"cat\ndog\n\n cat\n", "line 4: 'cat' stands on line 1 already"),
        (b"\n \n", "no line has any text"),
        (b"cat\n\xff\n", "not UTF-8 text .* byte 4"),
    ],
)
def test_bad_label_files_are_refused(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(content)
    with pytest.raises(BadLabels, match=words):
        read_labels(str(path))


@pytest.mark.parametrize("line", ["a photo", "{} and {}"])
def test_templates_have_one_place(line: str, tmp_path: Path) -> None:
    path = tmp_path / "templates.txt"
    path.write_text(f"a {{}}\n{line}\n")
    with pytest.raises(BadLabels, match=r"line 2: .* does not have exactly one {}"):
        read_templates(str(path))


def test_a_missing_file_says_what_else_there_is() -> None:
    with pytest.raises(BadLabels, match=r"No such file.* imagenet"):
        read_labels("image-net")
    with pytest.raises(BadLabels, match=r"No such file.* openai, simple"):
        read_templates("simpel")
