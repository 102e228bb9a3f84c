"""What a filter may say: conditions over an index's columns whose cost is bounded before anything reads them.

    width > 1000 AND caption LIKE '%dog%'

The store reads them as DataFusion's SQL, which reaches no file and no other table. But it has functions that fill the
memory (`array_repeat(1, 1000000000)`), it ends the whole process where a condition nests deeply (`width + 1 + 1 + …`),
it panics at some literals (`N'…'`), and it drops what it does not expect at the end. So a filter is taken apart here:
strings, names, numbers and signs, no more of them than a parser bears, and of functions those whose results are no
longer than what they are given.
"""

import re

from tritonclip_server.gateway.errors import ApiError, in_words

MAX_CHARACTERS = 2000
MAX_PARTS = 300  # names, words and signs, each of which may be a level; DataFusion bore 400 levels, and not 980
FUNCTIONS = frozenset(
    {
        "abs", "array_has", "array_length", "cardinality", "cast", "char_length", "coalesce", "contains", "date_part",
        "date_trunc", "ends_with", "length", "lower", "now", "nullif", "round", "starts_with", "strpos", "try_cast",
        "upper",
    }
)  # fmt: skip
_BEFORE_BRACKET = FUNCTIONS | {"and", "or", "not", "in", "like", "ilike", "between", "decimal"}

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
_LEVELS = frozenset({"quoted", "word", "sign"})


def check_filter(text: str, param: str) -> None:
    """Raise ApiError where a filter says what a filter here does not, with the place and the reason."""
    if len(text) > MAX_CHARACTERS:
        raise ApiError(
            "invalid_filter", f"{len(text)} characters, more than the limit of {MAX_CHARACTERS}", param=param
        )
    parts = 0
    kind, before = None, ""  # of the part before, blanks not counted
    at = 0
    while at < len(text):
        found = _PART.match(text, at)
        reason = "that is no condition of SQL here" if found is None else _fault(found, kind, before, text, at)
        if found is None or reason:
            raise ApiError("invalid_filter", f"at character {at + 1}, {in_words(text[at:])}: {reason}", param=param)
        at = found.end()
        if found.lastgroup != "blank":
            kind, before = found.lastgroup, found.group()
            parts += kind in _LEVELS and before != ","
    if kind is None:
        raise ApiError("invalid_filter", "it is empty: leave it out, or write a condition", param=param)
    if parts > MAX_PARTS:
        message = f"{parts} names and signs, more than the limit of {MAX_PARTS}; name IN (…) takes many values as one"
        raise ApiError("invalid_filter", message, param=param)


def _fault(found: re.Match[str], kind: str | None, before: str, text: str, at: int) -> str | None:
    """What is wrong with a part, by what stands before it."""
    if found.lastgroup == "comment":
        return "comments cannot stand in a filter"
    if found.lastgroup == "string" and kind in ("word", "number", "quoted") and not text[at - 1].isspace():
        return "a string begins with its quote alone"
    if found.group() != "(" or kind is None:
        return None
    if kind == "sign" and before not in (")", "]", "."):
        return None
    if kind == "word" and before.lower() in _BEFORE_BRACKET:
        return None
    named = f"{before} cannot be called" if kind in ("word", "quoted") else "nothing there can be called"
    return f"{named}; functions are {', '.join(sorted(FUNCTIONS))}"
