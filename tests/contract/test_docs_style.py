"""The documentation's form: short paragraphs and lines, links that lead somewhere, decisions that can be cited."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
DOCUMENTS = [
    *PAGES,
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "client/README.md")),
]
MAX_WORDS = 80
MAX_COLUMNS = 120

LINK = re.compile(r"\]\(([^()\s]+)\)")
HEADING = re.compile(r"^#{1,6} (.*)$", re.MULTILINE)
DECISION = re.compile(r"^### (\d+)\. \S.*\n\*(\d{4}-\d{2}-\d{2}) · (.*)\*\n\n", re.MULTILINE)
STATUS = re.compile(r"accepted|superseded by \[(\d+)\]\(#\S+\)")

by_name = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def without_code(text: str) -> str:
    """The text with its fenced blocks blank, so that lines keep their numbers."""
    return re.sub(r"^ *```.*?^ *```$", lambda block: "\n" * block[0].count("\n"), text, flags=re.MULTILINE | re.DOTALL)


def read(document: Path) -> str:
    return without_code(document.read_text(encoding="utf-8"))


def is_prose(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith(("|", "#", "!["))


def paragraphs(text: str) -> Iterator[str]:
    """Runs of prose, each item of a list by itself."""
    lines: list[str] = []
    for line in [*text.splitlines(), ""]:
        begins_item = re.match(r" *(?:[-*]|\d+\.) ", line)
        if lines and (begins_item or not is_prose(line)):
            yield " ".join(lines)
            lines = []
        if is_prose(line):
            lines.append(line.strip())


def slugs(text: str) -> list[str]:
    """The anchors of a document's headings, as GitHub and the site make them."""
    found: list[str] = []
    for heading in HEADING.findall(text):
        words = re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", words).strip().replace(" ", "-")
        found.append(slug if slug not in found else f"{slug}-{found.count(slug)}")
    return found


@by_name
def test_paragraphs_are_short(document: Path) -> None:
    long = [paragraph for paragraph in paragraphs(read(document)) if len(paragraph.split()) > MAX_WORDS]
    assert [f"{len(paragraph.split())} words: {paragraph[:60]}" for paragraph in long] == []


@by_name
def test_lines_of_prose_are_short(document: Path) -> None:
    lines = enumerate(read(document).splitlines(), start=1)
    assert [number for number, line in lines if is_prose(line) and len(line) > MAX_COLUMNS] == []


@by_name
def test_links_and_anchors_resolve(document: Path) -> None:
    broken = []
    for link in LINK.findall(read(document)):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (anchor and anchor not in slugs(read(target))):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(DOCS)))
def test_pages_link_within_the_site(page: Path) -> None:
    """What lies outside docs/ is named by its path: the site has no page of it."""
    links = [link.partition("#")[0] for link in LINK.findall(read(page)) if "://" not in link]
    assert [link for link in links if not (page.parent / link).resolve().is_relative_to(DOCS)] == []


def test_decisions_have_number_date_and_status() -> None:
    text = (DOCS / "decisions.md").read_text(encoding="utf-8")
    decisions = DECISION.findall(text)
    numbers = [int(number) for number, _, _ in decisions]
    assert len(numbers) > 100
    assert len(re.findall(r"^### ", text, re.MULTILINE)) == len(numbers)
    assert sorted(numbers) == list(range(1, len(numbers) + 1))
    successors = {int(number): STATUS.fullmatch(status) for number, _, status in decisions}
    assert all(successors.values())
    assert {int(found[1]) for found in successors.values() if found and found[1]} <= set(numbers)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("one two\nthree\n\nfour", [3, 1]),
        ("- a b\n- c\n  d", [3, 3]),
        ("| a | b |\n# c\nd", [1]),
        ("```\na\n```\nb", [1]),
    ],
)
def test_a_paragraph_is_a_run_of_prose_or_an_item(text: str, words: list[int]) -> None:
    assert [len(paragraph.split()) for paragraph in paragraphs(without_code(text))] == words


def test_anchors_are_made_as_github_makes_them() -> None:
    text = '# A `b` & c\n## 58. "No" is UN_A\n## A `b` & c\n'
    assert slugs(text) == ["a-b--c", "58-no-is-un_a", "a-b--c-1"]
