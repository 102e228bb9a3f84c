"""Conditions over an index's columns, as people write them: SQL, as far as it only looks at a row.

The store's parser stops where a condition ends and passes over the rest, and some of its functions take any amount of
memory. So a condition goes to it in parentheses, and with functions alone that cost little.
"""

import re

from tritonclip._errors import InputError

CHARACTERS = 4000
_QUOTED = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|`[^`]*`")
_CALL = re.compile(r"\b([A-Za-z_]\w*)\s*\(")
_WORDS = frozenset(
    ("and", "or", "not", "in", "like", "ilike", "between", "is", "case", "when", "then", "else", "cast", "try_cast")
)
_FUNCTIONS = frozenset(
    (
        *("lower", "upper", "trim", "length", "character_length", "starts_with", "ends_with", "contains"),
        *("regexp_like", "coalesce", "nullif", "abs", "round", "floor", "ceil", "date_part", "date_trunc"),
    )
)


def checked(condition: str) -> str:
    """The condition as the store gets it; InputError (filter) where it may not be used."""
    if not isinstance(condition, str) or not condition.strip():
        raise InputError("a condition is expected, such as width > 1000", noun="filter")
    if len(condition) > CHARACTERS:
        raise InputError(f"longer than {CHARACTERS} characters", noun="filter")
    bare = _QUOTED.sub("''", condition)
    if "--" in bare or "/*" in bare:
        raise InputError("a condition has no comments", noun="filter")
    calls = {name.lower() for name in _CALL.findall(bare)}
    unknown = calls - _WORDS - _FUNCTIONS
    if unknown:
        known = ", ".join(sorted(_FUNCTIONS))
        raise InputError(f"{', '.join(sorted(unknown))}: there are the functions {known}", noun="filter")
    return f"({condition})"
