"""The compose files as data, with their settings filled in: by their defaults, or by given values."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
SETTING = re.compile(r"\$\{(\w+):-([^}]*)\}")


class _Loader(yaml.SafeLoader):
    """Reads Compose's own tags as what they hold."""


_Loader.add_multi_constructor("!", lambda loader, tag, node: _plain(loader, node))


def _plain(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    return loader.construct_sequence(node, deep=True) if isinstance(node, yaml.SequenceNode) else None


def text(name: str) -> str:
    """A compose file as it is written."""
    return (ROOT / name).read_text(encoding="utf-8")


def services(name: str, settings: Mapping[str, str] = {}) -> dict[str, Any]:
    """The services of one file, with the settings filled in."""
    filled = SETTING.sub(lambda match: settings.get(match[1], match[2]), text(name))
    document: dict[str, Any] = yaml.load(filled, _Loader)
    found: dict[str, Any] = document["services"]
    return found


def settings(name: str) -> dict[str, set[str]]:
    """Each setting of a file with the defaults that are written for it."""
    found: dict[str, set[str]] = {}
    for setting, default in SETTING.findall(text(name)):
        found.setdefault(setting, set()).add(default)
    return found
