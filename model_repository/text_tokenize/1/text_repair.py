"""ftfy's repair of texts, with the same result and a bound on its work.

    text ──all right?──> as it is
      └──lines, each kind once──> plain ones as they are; others: ftfy, metered ──> text

ftfy repairs line by line, at tens of microseconds each, and turns every line round until nothing changes: with what can
be nested (entities in entities, wrong encodings in wrong encodings) that is once for each character. Here lines that it
would not change are not given to it, lines that repeat are given once, and the rest has a budget.
"""

import itertools
import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Literal

import ftfy
from ftfy import ExplainedText, TextFixerConfig
from ftfy.badness import is_bad
from ftfy.chardata import C1_CONTROL_RE
from ftfy.fixes import fix_line_breaks

# Of these ftfy changes line breaks alone: no entity, nothing beyond ASCII, no control character but white space.
_PLAIN = re.compile(r"[ -%'-~\t\n\f\r]*")
_LINE = re.compile(r"[^\n]*\n|[^\n]+")

# Work is counted in characters, a third of a microsecond each. A turn costs as much as some of them whatever its
# length; a C1 control character, which is fixed by itself, more than others; a text of ASCII, whose encoding needs no
# repair, a fraction. A text in one wrong encoding takes two or three turns.
BUDGET = 80_000
TURN_COST = 24
C1_COST = 4
ASCII_COST = 1 / 8


class TooGarbled(ValueError):
    """A text whose repair would be more work than any that people write."""


def fix_text(text: str) -> str:
    """`ftfy.fix_text(text)`; TooGarbled where that would take too long."""
    if _PLAIN.fullmatch(text):
        return fix_line_breaks(text)
    with _metered(BUDGET):
        if "\n" in text and _is_right(text):
            return text
        return "".join(_fix_lines(text))


def _fix_lines(text: str) -> Iterator[str]:
    config = TextFixerConfig(explain=False)
    fixed: dict[str, str] = {}
    for line in _LINE.findall(text):
        if config.unescape_html and "<" in line:
            # HTML: from this line on, entities are left as they are.
            config, fixed = config._replace(unescape_html=False), {}
        if line not in fixed:
            plain = _PLAIN.fullmatch(line)
            fixed[line] = fix_line_breaks(line) if plain else ftfy.fix_and_explain(line, config).text
        yield fixed[line]


def _is_right(text: str) -> bool:
    """Whether ftfy would leave every line of a text as it is; where in doubt, not.

    What looks wrongly encoded in a line does so in the whole, where there is but more to find. The one exception, by
    ftfy's own patterns, is an "Ã " or "Â " that begins a line.
    """
    if "&" in text or "Ã " in text or "Â " in text or is_bad(text):
        return False
    return bool(ftfy.fix_and_explain(text, TextFixerConfig(explain=False, fix_encoding=False)).text == text)


@contextmanager
def _metered(budget: float) -> Iterator[None]:
    """Meter ftfy, which has no limits of its own.

    Each turn of its loops, the inner ones included, goes through one function, which is replaced meanwhile; and so is
    the normalization at the end of a turn.
    """
    module: Any = ftfy
    step = module._fix_encoding_one_step_and_explain

    def metered_step(text: str, config: TextFixerConfig) -> ExplainedText:
        nonlocal budget
        budget -= _cost(text)
        if budget < 0:
            raise TooGarbled("its encoding or its entities are garbled too many times over to be repaired")
        result: ExplainedText = step(text, config)
        return result

    module._fix_encoding_one_step_and_explain = metered_step
    module.unicodedata = SimpleNamespace(normalize=_normalize)
    try:
        yield
    finally:
        module._fix_encoding_one_step_and_explain = step
        module.unicodedata = unicodedata


def _cost(text: str) -> float:
    """Of one turn."""
    if text.isascii():
        return TURN_COST + ASCII_COST * len(text)
    return TURN_COST + len(text) + C1_COST * len(C1_CONTROL_RE.findall(text))


def _normalize(form: Literal["NFC", "NFD", "NFKC", "NFKD"], text: str) -> str:
    """`unicodedata.normalize`, which sorts a run of combining marks by insertion: a long one comes to it sorted."""
    return unicodedata.normalize(form, _LONG_RUN.sub(_in_canonical_order, text))


def _in_canonical_order(run: re.Match[str]) -> str:
    """Decomposed, its marks stably by combining class: Unicode's Canonical Ordering Algorithm (15.0, section 3.11)."""
    if unicodedata.is_normalized("NFD", run[0]):  # which sees without sorting that it is not
        return run[0]
    decomposed = "".join(unicodedata.normalize("NFD", character) for character in run[0])
    groups = itertools.groupby(decomposed, key=lambda character: unicodedata.combining(character) > 0)
    return "".join("".join(sorted(group, key=unicodedata.combining)) for _, group in groups)


# What may be a long run of marks: of those beyond the first plane `re` would look at each range in turn, at each place.
_MARKS = "".join(chr(code) for code in range(0x10000) if unicodedata.combining(chr(code)))
_LONG_RUN = re.compile(f"[{_MARKS}\u0f73\u0f75\u0f81\U00010000-\U0010ffff]{{32,}}")
