"""What libtiff complains of: it writes to the standard error, reads on over some damage, and fills up with white.

Pillow has no way to ask. So the process's standard error leads elsewhere while a TIFF is decoded, which also keeps
callers' broken files out of the log; the process has one thread that decodes.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

_STANDARD_ERROR = 2
_MOST_BYTES = 4096
_COMPLAINT = re.compile(r"^\w[\w.]*: (?!Warning, )(.+?)\.?$", re.MULTILINE)


@contextmanager
def collected() -> Iterator[list[str]]:
    """Give a list that holds libtiff's errors, without its warnings, when the block ends."""
    found: list[str] = []
    try:
        before = os.dup(_STANDARD_ERROR)
    except OSError:  # there is none
        yield found
        return
    elsewhere = os.memfd_create("complaints")
    os.dup2(elsewhere, _STANDARD_ERROR)
    try:
        yield found
    finally:
        os.dup2(before, _STANDARD_ERROR)
        os.close(before)
        found += _COMPLAINT.findall(os.pread(elsewhere, _MOST_BYTES, 0).decode(errors="replace"))
        os.close(elsewhere)
