"""The extra that searching needs, imported where a command asks for it: it takes a second."""

from types import ModuleType

from tritonclip.cli._usage import UsageError

HOW = 'searching needs LanceDB: pip install "tritonclip[search]"'


def open_search() -> ModuleType:
    """The package ``tritonclip.search``; UsageError says how to get what it lacks."""
    try:
        from tritonclip import search
    except ModuleNotFoundError as exc:
        if exc.name is None or exc.name.partition(".")[0] not in ("lancedb", "pyarrow"):
            raise
        raise UsageError(HOW) from exc
    return search
