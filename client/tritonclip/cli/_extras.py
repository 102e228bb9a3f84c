"""What extras bring, imported where a command asks for it: it takes a second, and may not be there."""

import importlib
from types import ModuleType
from typing import Final

from tritonclip.cli._usage import UsageError

_BULK: Final = frozenset({"pyarrow"})
_SEARCH: Final = frozenset({"lancedb", "pyarrow"})
_TRAIN: Final = frozenset({"matplotlib", "safetensors", "scipy", "threadpoolctl"})


def open_bulk() -> ModuleType:
    """The package ``tritonclip.bulk``; UsageError says how to get what it lacks."""
    return _open("tritonclip.bulk", _BULK, 'data sets need pyarrow: pip install "tritonclip[bulk]"')


def open_search() -> ModuleType:
    """The package ``tritonclip.search``; UsageError says how to get what it lacks."""
    return _open("tritonclip.search", _SEARCH, 'searching needs LanceDB: pip install "tritonclip[search]"')


def open_training() -> ModuleType:
    """The package ``tritonclip.training``; UsageError says how to get what it lacks."""
    return _open("tritonclip.training", _TRAIN, 'training needs SciPy: pip install "tritonclip[train]"')


def _open(name: str, brought: frozenset[str], how: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name is None or exc.name.partition(".")[0] not in brought:
            raise
        raise UsageError(how) from exc
