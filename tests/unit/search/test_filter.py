"""What a condition may say, and that the deepest that it may say does not end the process."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import lancedb
import pyarrow as pa
import pytest

from tritonclip import InputError
from tritonclip.search import Index
from tritonclip.search._filter import CHARACTERS, FUNCTIONS, LEVELS, checked
from tritonclip.search._store import Store

ALLOWED = [
    "width > 1000 AND caption LIKE '%dog%'",
    "(width > 1 OR NOT (height <= 2)) AND width IN (1, 2) AND height BETWEEN (1) AND 3",
    "caption = 'it''s; -- repeat(1) /* no comment */ $ \\'",
    '"own column" = 1 AND `other` != 2.5e-3 AND caption IS NOT NULL',
    "mtime > timestamp '2024-01-01 00:00:00' AND date_part('year', mtime) = 2024",
    "lower(caption) = 'é' AND Contains (uri, 'x') AND CAST(width AS string) = '1' AND width::int % 2 = 0",
    "array_has(tags, 'a') AND tags[1] = 'b' AND [1, 2] IS NOT NULL AND caption || 'x' = 'yx'",
    "width IN (" + ", ".join("1" for _ in range(600)) + ")",
    "breite_ä = -1",
]


@pytest.mark.parametrize("text", ALLOWED)
def test_conditions_over_columns_are_allowed(text: str) -> None:
    assert checked(text) == f"({text})"


REFUSED = {
    "repeat(uri, 1000000000) = 'x'": "repeat cannot be called",
    "array_repeat(1, 1000000000)[1] = 1": "array_repeat cannot be called",
    "x.repeat(1) = 1": "repeat cannot be called",
    '"repeat"(uri, 3) = 1': '"repeat" cannot be called',
    "`repeat` (uri, 3) = 1": "`repeat` cannot be called",
    "[repeat](uri, 3) = 1": "] cannot be called",
    "(repeat)(uri, 3) = 1": ") cannot be called",
    "regexp_replace(uri, 'a', 'b') = 'x'": "regexp_replace cannot be called",
    "width IN (SELECT (1) FROM images) AND select(1)": "SELECT cannot be called",
    "width > 1; DROP TABLE images": "character 10",
    "width > 1 -- AND x": "no comments",
    "width /* */ > 1": "no comments",
    "uri = N'a'": "a string begins with its quote",
    "uri = E'a\\'' OR repeat(1, 2) = '": "a string begins with its quote",
    "uri = $$a$$": "character 7",
    "width = ?": "character 9",
    "uri ~ 'a'": "character 5",
    "uri = 'a": "character 7",
    'uri = "a': "character 7",
    "\\": "nothing of a condition",
    "width & 1": "character 7",
    "": "a condition is expected",
    " \n": "a condition is expected",
    "x" * (CHARACTERS + 1): f"longer than {CHARACTERS} characters",
    "width" + "+1" * LEVELS + " > 1": f"more than {LEVELS} names and signs",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_none_or_may_cost_anything_is_refused_with_its_reason(text: str) -> None:
    with pytest.raises(InputError) as refused:
        checked(text)
    assert refused.value.noun == "filter"
    assert REFUSED[text] in refused.value.reason


DEEP = [
    "width" + "+1" * (LEVELS - 5) + " > 1",
    "NOT " * (LEVELS - 5) + "width > 1",
    "(" * 290 + "width > 1" + ")" * 5,
    "width" + "::int" * 95 + " > 1",
    " OR ".join(["width = 1"] * 74),
    "lower(" * 90 + "uri" + ")" * 90 + " = uri",
]
PROBE = """
import sys, lancedb, pyarrow
table = lancedb.connect(sys.argv[1]).create_table("images", pyarrow.table({"uri": ["a"], "width": [1]}))
for condition in sys.argv[2:]:
    try:
        table.search().where(f"({condition})").to_arrow()
    except (ValueError, RuntimeError):
        pass
print("survived")
"""


def test_the_deepest_filter_that_is_allowed_does_not_end_the_process(tmp_path: Path) -> None:
    for condition in DEEP:
        checked(condition)
    command = [sys.executable, "-c", PROBE, str(tmp_path / "db"), *DEEP]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout.strip() == "survived", done.stderr[-2000:]


CALLS = (
    "abs(width) = 1", "array_has([1], width)", "array_length([1]) = 1", "character_length(uri) = 1",
    "regexp_like(uri, '^a$')",
    "cast(width AS string) = '1'", "char_length(uri) = 1", "coalesce(uri, 'x') = 'a'", "contains(uri, 'a')",
    "date_part('year', now()) > 1", "date_trunc('year', now()) < now()", "ends_with(uri, 'a')", "length(uri) = 1",
    "lower(uri) = 'a'", "now() = now()", "nullif(uri, 'x') = 'a'", "round(width) = 1", "starts_with(uri, 'a')",
    "try_cast(uri AS int) IS NULL", "upper(uri) = 'A'",
)  # fmt: skip


def test_every_function_that_is_named_is_one_of_the_stores(tmp_path: Path) -> None:
    assert {condition.partition("(")[0] for condition in CALLS} == FUNCTIONS
    table = lancedb.connect(tmp_path / "db").create_table("images", pa.table({"uri": ["a"], "width": [1]}))
    for condition in CALLS:
        checked(condition)
        assert table.search().where(condition).to_arrow().num_rows == 1, condition


def test_a_filter_that_takes_long_keeps_no_other_search_waiting(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go, find = threading.Event(), threading.Event(), Store.find

    def slow(self: Store, *arguments: Any) -> Any:
        begun.set()
        assert go.wait(60)
        return find(self, *arguments)

    monkeypatch.setattr(Store, "find", slow)
    with ThreadPoolExecutor() as pool:
        filtered = pool.submit(index.search, "cat", where="uri LIKE '%pets%'")
        try:
            assert begun.wait(60)
            assert len(pool.submit(index.search, "cat").result(60)) == 4
            assert not filtered.done()
        finally:
            go.set()
        assert len(filtered.result(60)) == 2


def test_many_rows_are_removed_by_name(index: Index, tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.jpg" for number in range(300)]
    for file in files:
        file.write_text(file.name)
    index.add(files)
    assert index.remove(files) == 300
    assert index.info().rows == 4
