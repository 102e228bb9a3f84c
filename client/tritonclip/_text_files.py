"""Lines of text files."""

import re

_LINE_END = re.compile(r"\r\n|\n|\r")


def split_lines(text: str) -> list[str]:
    """Lines as editors and spreadsheets count them: they end at LF, CR LF or CR.

    ``str.splitlines`` also cuts at characters that stand inside of sentences: U+2028, U+0085, form feeds and others.
    """
    lines = _LINE_END.split(text)
    return lines if lines[-1] else lines[:-1]
