"""Lines of text files, and text that UTF-8 can write."""

import re

_LINE_END = re.compile(r"\r\n|\n|\r")


def split_lines(text: str) -> list[str]:
    """Lines as editors and spreadsheets count them: they end at LF, CR LF or CR.

    ``str.splitlines`` also cuts at characters that stand inside of sentences: U+2028, U+0085, form feeds and others.
    """
    lines = _LINE_END.split(text)
    return lines if lines[-1] else lines[:-1]


def as_text(text: str) -> str:
    """The text with escapes for what UTF-8 cannot write: bytes of a name that are no text, halves of pairs."""
    return text.encode(errors="backslashreplace").decode()
