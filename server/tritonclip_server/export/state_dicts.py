"""Weights under the names that training left them with, by the names that open_clip's models have.

    {"epoch": 3, "state_dict": {"module._orig_mod.visual.…": …}}  ──>  {"visual.…": …}

torch.compile writes `_orig_mod.` before the names of whatever it compiled, data parallelism and trainers `module.`,
`model.` or a name of their own before all of them.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from open_clip import factory

# What trainers keep weights under, beside other things.
WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
COMPILED = "_orig_mod"


def plain_names(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The weights of a checkpoint without wrappers and without what stands before all of their names.

    A CLIP has `logit_scale` beside its towers, so a beginning that all names share is never a part of the model.
    """
    inner = next((checkpoint[key] for key in WRAPPERS if isinstance(checkpoint.get(key), Mapping)), None)
    if inner is not None:
        return plain_names(inner)
    names = {name: [part for part in name.split(".") if part != COMPILED] for name in checkpoint}
    while len({parts[0] for parts in names.values()}) == 1 and all(len(parts) > 1 for parts in names.values()):
        names = {name: parts[1:] for name, parts in names.items()}
    return {".".join(parts): checkpoint[name] for name, parts in names.items()}


@contextmanager
def read_plainly() -> Iterator[None]:
    """Have open_clip, wherever it gets weights from, see them by their plain names."""
    read = factory.load_state_dict

    def read_plain(*arguments: Any, **options: Any) -> dict[str, Any]:
        return plain_names(read(*arguments, **options))

    factory.load_state_dict = read_plain
    try:
        yield
    finally:
        factory.load_state_dict = read
