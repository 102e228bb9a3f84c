"""What a filter may say, and that whatever it may say costs no more than reading it."""

import subprocess
import sys
from pathlib import Path

import lancedb
import pyarrow as pa
import pytest

from tritonclip_server.gateway.errors import ApiError
from tritonclip_server.gateway.search.filters import FUNCTIONS, MAX_CHARACTERS, MAX_PARTS, check_filter

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
    check_filter(text, "filter")


REFUSED = {
    "repeat(uri, 1000000000) = 'x'": "repeat cannot be called",
    "array_repeat(1, 1000000000)[1] = 1": "array_repeat cannot be called",
    "x.repeat(1) = 1": "repeat cannot be called",
    '"repeat"(uri, 3) = 1': '"repeat" cannot be called',
    "`repeat` (uri, 3) = 1": "`repeat` cannot be called",
    "[repeat](uri, 3) = 1": "nothing there can be called",
    "(repeat)(uri, 3) = 1": "nothing there can be called",
    "regexp_like(uri, 'a')": "regexp_like cannot be called",
    "width IN (SELECT (1) FROM images) AND select(1)": "SELECT cannot be called",
    "width > 1; DROP TABLE images": '";',
    "width > 1 -- AND x": "comments",
    "width /* */ > 1": "comments",
    "uri = N'a'": "a string begins with its quote alone",
    "uri = E'a\\'' OR repeat(1, 2) = '": "a string begins with its quote alone",
    "uri = $$a$$": "$",
    "width = ?": "?",
    "uri ~ 'a'": "~",
    "uri = 'a": "'a",
    'uri = "a': "a",
    "\\": "condition",
    "width & 1": "&",
    "": "empty",
    " \n": "empty",
    "x" * (MAX_CHARACTERS + 1): f"limit of {MAX_CHARACTERS}",
    "width" + "+1" * MAX_PARTS + " > 1": f"limit of {MAX_PARTS}",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_none_or_may_cost_anything_is_refused_with_its_reason(text: str) -> None:
    with pytest.raises(ApiError) as refused:
        check_filter(text, "filter")
    assert (refused.value.code, refused.value.param) == ("invalid_filter", "filter")
    assert REFUSED[text] in refused.value.reason


DEEP = [
    "width" + "+1" * (MAX_PARTS - 5) + " > 1",
    "NOT " * (MAX_PARTS - 5) + "width > 1",
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
        check_filter(condition, "filter")
    command = [sys.executable, "-c", PROBE, str(tmp_path / "db"), *DEEP]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout.strip() == "survived", done.stderr[-2000:]


CALLS = (
    "abs(width) = 1", "array_has([1], width)", "array_length([1]) = 1", "cardinality([1]) = 1",
    "cast(width AS string) = '1'", "char_length(uri) = 1", "coalesce(uri, 'x') = 'a'", "contains(uri, 'a')",
    "date_part('year', now()) > 1", "date_trunc('year', now()) < now()", "ends_with(uri, 'a')", "length(uri) = 1",
    "lower(uri) = 'a'", "now() = now()", "nullif(uri, 'x') = 'a'", "round(width) = 1", "starts_with(uri, 'a')",
    "strpos(uri, 'a') = 1", "try_cast(uri AS int) IS NULL", "upper(uri) = 'A'",
)  # fmt: skip


def test_every_function_that_is_named_is_one_of_the_stores(tmp_path: Path) -> None:
    assert {condition.partition("(")[0] for condition in CALLS} == FUNCTIONS
    table = lancedb.connect(tmp_path / "db").create_table("images", pa.table({"uri": ["a"], "width": [1]}))
    for condition in CALLS:
        check_filter(condition, "filter")
        assert table.search().where(condition).to_arrow().num_rows == 1, condition
