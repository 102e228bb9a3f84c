"""docs/gateway.md names every endpoint, error, option and metric that there is, and none that there is not."""

import json
import re
from pathlib import Path

from tritonclip import AsyncClient
from tritonclip.testing import FakeServer
from tritonclip_server.gateway.app import create_app
from tritonclip_server.gateway.cli import parser
from tritonclip_server.gateway.errors import STATUSES
from tritonclip_server.gateway.metrics import Metrics
from tritonclip_server.gateway.parsing.noop_fields import NOOP_FIELDS
from tritonclip_server.gateway.settings import Limits, Settings

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "gateway.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return GUIDE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_every_error_code_with_its_status() -> None:
    listed = {}
    for statuses, codes in re.findall(r"^\| ([\d, ]+)[^|]*\| (.*) \|$", section("Errors"), re.MULTILINE):
        for code in re.findall(r"`(\w+)`", codes):
            listed[code] = {int(status) for status in re.findall(r"\d{3}", statuses)}
    assert set(listed) == set(STATUSES)
    assert all(STATUSES[code] in statuses for code, statuses in listed.items())


def test_every_metric() -> None:
    names = {family.name for family in Metrics().registry.collect()}
    listed = {name.removesuffix("_total") for name in re.findall(r"^\| `(\w+)`", section("Metrics"), re.MULTILINE)}
    assert listed == names


def test_every_endpoint() -> None:
    app = create_app(AsyncClient(transport=FakeServer().async_transport()), Settings())
    table = section("Endpoints").split("\n\nAn image is")[0]
    listed = set(re.findall(r"(/[\w/{}.-]*)(?=[`,\s])", " ".join(re.findall(r"^\| `[^|]*", table, re.MULTILINE))))
    assert listed == {*app.openapi()["paths"], "/"}


def test_every_field_that_asks_for_nothing_with_its_values() -> None:
    listed = {}
    for names, values in re.findall(r"^\| ([^|]*) \| (`null`[^:]*?): ", section("Endpoints"), re.MULTILINE):
        for name in re.findall(r"`(\w+)`", names):
            listed[name] = [json.loads(value) for value in re.findall(r"`([^`]*)`", values)]
    assert listed == {name: [None, *neutral.values] for name, neutral in NOOP_FIELDS.items()}


def test_every_option_with_its_help() -> None:
    options = {option for action in parser()._actions for option in action.option_strings} - {"-h", "--help"}
    named = set(re.findall(r"--[a-z][a-z-]+", GUIDE))
    assert options <= named
    others = {"--requests-per-minute", "--images-per-minute", "--model", "--gateway-port", "--gateway-flags"}
    assert named - options == others
    assert all(action.help for action in parser()._actions)
    assert len(re.findall(r"^\| `--max", section("Limits"), re.MULTILINE)) == len(Limits.__dataclass_fields__)
