"""Conditions over an index's columns, as people write them: SQL, as far as it only looks at a row.

    width > 1000 AND caption LIKE '%dog%'

The store's parser (DataFusion's) reaches no file and no other table. But it passes over what stands behind a condition,
it panics at some literals (`N'…'`) and at `?`, it ends the whole process where a condition nests deeply
(`width + 1 + 1 + …`), and some functions take any amount of memory (`array_repeat(1, 1000000000)`). So a condition is
taken apart here into strings, names, numbers and signs, no more of them than the parser bears, and goes to it in
parentheses, with functions alone whose results are no longer than what they are given.
"""

import re

from tritonclip._errors import InputError

CHARACTERS = 4000
LEVELS = 300  # names, words and signs, each of which may nest; the parser bore 400 levels, and not 980
FUNCTIONS = frozenset(
    (
        *("abs", "array_has", "array_length", "cast", "char_length", "character_length", "coalesce", "contains"),
        *("date_part", "date_trunc", "ends_with", "length", "lower", "now", "nullif", "regexp_like", "round"),
        *("starts_with", "try_cast", "upper"),
    )
)
_BEFORE_BRACKET = FUNCTIONS | {"and", "or", "not", "in", "like", "ilike", "between", "decimal"}
_NESTING = frozenset({"quoted", "word", "sign"})
_SHOWN_CHARACTERS = 20

_PART = re.compile(
    r"""(?P<blank>\s+)
    |(?P<comment>--|/\*)
    |(?P<string>'(?:[^']|'')*')
    |(?P<quoted>"(?:[^"]|"")+"|`(?:[^`]|``)+`)
    |(?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
    |(?P<word>[^\W\d]\w*)
    |(?P<sign>[<>=!+\-*/%|.,:()\[\]])""",
    re.VERBOSE,
)


def checked(condition: str) -> str:
    """The condition as the store gets it; InputError (filter) where it may not be used, with the place and why."""
    if not isinstance(condition, str) or not condition.strip():
        raise InputError("a condition is expected, such as width > 1000", noun="filter")
    if len(condition) > CHARACTERS:
        raise InputError(f"longer than {CHARACTERS} characters", noun="filter")
    levels = at = 0
    before: re.Match[str] | None = None  # the part before, but for blanks
    while at < len(condition):
        part = _PART.match(condition, at)
        reason = "nothing of a condition" if part is None else _fault(part, before)
        if part is None or reason:
            shown = condition[at : at + _SHOWN_CHARACTERS]
            raise InputError(f"at character {at + 1}, {shown!r}: {reason}", noun="filter")
        at = part.end()
        levels += part.lastgroup in _NESTING and part.group() != ","
        before = before if part.lastgroup == "blank" else part
    if levels > LEVELS:
        message = f"more than {LEVELS} names and signs; column IN (…, …) takes any number of values"
        raise InputError(message, noun="filter")
    return f"({condition})"


def _fault(part: re.Match[str], before: re.Match[str] | None) -> str | None:
    """What is wrong with a part, by the part before it."""
    if part.lastgroup == "comment":
        return "a condition has no comments"
    if before is None:
        return None
    if part.lastgroup == "string" and before.end() == part.start() and before.lastgroup != "sign":
        return "a string begins with its quote"  # any prefix would say what a backslash in it means
    if part.group() != "(" or (before.lastgroup == "sign" and before.group() not in ")]."):
        return None
    if before.lastgroup == "word" and before.group().lower() in _BEFORE_BRACKET:
        return None
    return f"{before.group()} cannot be called; there are the functions {', '.join(sorted(FUNCTIONS))}"
