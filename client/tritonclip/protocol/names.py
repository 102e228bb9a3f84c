"""What the models of a served repository are called, where a Triton carries several of them.

    embed_image       of a repository that was published without a name: one a Triton
    vit.embed_image   of one that was published as ``vit``

Whatever has a manifest is a model to clients, and so tells by which names a server has any.
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from tritonclip.protocol.messages import Call, ServerInfoRequest, StatisticsRequest

SEPARATOR: Final = "."
NAME_RULE: Final = "lower-case letters, digits, - and _, at most 64"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
MANIFEST: Final = "manifest"


def is_name(text: str) -> bool:
    """Whether a model, or a label set, can be called so: in Triton, in URLs, in metrics and as a folder."""
    return _NAME.fullmatch(text) is not None


def qualified(model: str, name: str | None) -> str:
    """What Triton calls one of the models of a repository that was published by this name, or without one."""
    return model if name is None else f"{name}{SEPARATOR}{model}"


def addressed(call: Call, name: str | None) -> Call:
    """The call to the models of this name; what is asked of the server itself stays as it is."""
    if name is None or isinstance(call, ServerInfoRequest | StatisticsRequest):
        return call
    return replace(call, model=qualified(call.model, name))


def is_manifest(model: str) -> bool:
    """Whether this is what Triton calls the manifest of a repository, by whatever name that was published."""
    return model.split(SEPARATOR)[-1] == MANIFEST


def served_names(models: Iterable[str]) -> list[str | None]:
    """By which names these models of a server were published; None stands for those without one, and comes first."""
    found = {model.removesuffix(MANIFEST) for model in models if is_manifest(model)}
    return [prefix.removesuffix(SEPARATOR) or None for prefix in sorted(found)]


def others(names: Iterable[str | None]) -> str:
    """What to tell who asked by another name than these, or by none."""
    found = [*names]
    carried = ", ".join("one model without a name" if name is None else name for name in found)
    remedy = "model=NAME asks for one by its name" if any(found) else "leave model out"
    return f"the server carries {carried}; {remedy}"


def own_models(models: Iterable[str], name: str | None) -> dict[str, str]:
    """Of all models of a server those that were published by this name, and what they are called without it."""
    names = [*models]
    if name is not None:
        prefix = qualified("", name)
        return {model: model.removeprefix(prefix) for model in names if model.startswith(prefix)}
    foreign = tuple(qualified("", other) for other in served_names(names) if other is not None)
    return {model: model for model in names if not model.startswith(foreign)}
