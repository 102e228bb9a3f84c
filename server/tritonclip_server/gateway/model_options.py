"""`--url [NAME=]URL` and `--alias NAME[=MODEL]`: the models of a gateway, and the names they are asked for by."""

import re
from collections.abc import Sequence

from tritonclip import ConfigError

_NAME = re.compile(r"[A-Za-z0-9][\w./:-]{0,127}", re.ASCII)  # it stands in paths, in labels of metrics, in key files


def models_of(urls: Sequence[str]) -> dict[str, str | None]:
    """The URL of each model by its name; of a lone one without a name by "", and None where none is given.

    ConfigError where one of several has no name, or two have the same.
    """
    models: dict[str, str | None] = {}
    for given in urls:
        name, url = _parted(given)
        if not name and len(urls) > 1:
            raise ConfigError(f"--url {given}: each of several needs a name: --url NAME={given}")
        if name in models:
            raise ConfigError(f"--url {given}: there are two models of the name {name}")
        models[name] = url
    return models or {"": None}


def aliases_of(given: Sequence[str], models: Sequence[str]) -> dict[str, str | None]:
    """What each other name stands for, None being the first model; ConfigError where that is no model, or several."""
    aliases: dict[str, str | None] = {}
    for option in given:
        alias, sign, model = option.rpartition("=")
        stands_for = model if sign else None
        alias = alias if sign else option
        if not alias or (sign and (not model or model not in models)):
            named = ", ".join(filter(None, models)) or "none with a name, which --url NAME=URL gives"
            raise ConfigError(f"--alias {option}: expected NAME or NAME=MODEL, of which there is {named}")
        if alias in models and alias != (stands_for or models[0]):
            raise ConfigError(f"--alias {option}: another model has this name")
        if aliases.setdefault(alias, stands_for) != stands_for:
            raise ConfigError(f"--alias {option}: this name stands for {aliases[alias] or 'the first model'} already")
    return aliases


def is_name(text: str) -> bool:
    """Whether a model may have this name."""
    return _NAME.fullmatch(text) is not None and "://" not in text


def _parted(given: str) -> tuple[str, str]:
    """The name, "" where there is none, and the URL; a URL may have an equals sign of its own, behind a "?"."""
    name, sign, url = given.partition("=")
    if not sign or "://" in name or "?" in name:
        return "", given
    if not is_name(name):
        message = "a name has letters, digits, '.', '_', '-', '/' and ':', 128 at most"
        raise ConfigError(f"--url {given}: {message}")
    if not url:
        raise ConfigError(f"--url {given}: there is no URL behind the name")
    return name, url
