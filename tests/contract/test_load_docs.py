"""docs/load.md against what it describes: options, scenarios, keys and commands."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from load.users.scenarios import PROTOCOLS, ImageKind, Scenario, parse_scenario, read_scenarios
from load.users.thresholds import Thresholds

ROOT = Path(__file__).resolve().parents[2]
DOCS = (ROOT / "docs" / "load.md").read_text(encoding="utf-8")
LOCUST = DOCS[DOCS.index("## Locust") :]


def section(title: str) -> str:
    """One section of the Locust part."""
    return re.split(r"^##+ ", LOCUST.split(f"\n### {title}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]


def first_cells(text: str) -> set[str]:
    """Names in the first column of the tables in a text."""
    return {name for row in re.findall(r"^\| (`[^|]+) \|", text, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}


def test_scenarios_are_those_there_are() -> None:
    scenarios = section("Scenarios")
    listed = first_cells(scenarios[: scenarios.index("```toml")])
    assert listed == read_scenarios().keys()
    for text in (DOCS, (ROOT / "README.md").read_text(encoding="utf-8")):
        assert set(re.findall(r"(?:SCENARIO=|--scenario )([a-z]+)", text)) <= listed


def test_the_example_is_a_scenario() -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", LOCUST, re.DOTALL)
    for name, values in tomllib.loads(example).items():
        parse_scenario(name, values)


def test_keys_are_those_that_are_read() -> None:
    known = Scenario.model_fields.keys() - {"name"}
    scenarios = section("Scenarios")
    assert first_cells(scenarios[scenarios.index("| key |") :]) == known
    assert first_cells(section("Thresholds")) == Thresholds.model_fields.keys()
    (images,) = re.findall(r"^\| `images` \| (kinds.*?) \|", scenarios, re.MULTILINE)
    assert set(re.findall(r"`([a-z]+)`", images)) == ImageKind.model_fields.keys()
    assert first_cells(section("What happens")) == set(PROTOCOLS)


PRINT = """
from locust.argument_parser import get_empty_argument_parser, setup_parser_arguments
from load.users.events import add_options
parser = get_empty_argument_parser()
setup_parser_arguments(parser)
add_options(parser)
for action in parser._actions:
    print(*action.option_strings, action.env_var or "")
"""


def test_options_and_their_environment_are_locusts() -> None:
    """`locust --help` shows Locust's own options alone, so its parser is asked, in a process that it may patch."""
    command = [sys.executable, "-c", PRINT]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    there = set(re.findall(r"--[a-z][\w-]+", said))
    text = section("Ways to run it")
    assert len(re.findall(r"^\| `--", text, re.MULTILINE)) == 7
    assert set(re.findall(r"(?<![\w-])--[a-z][\w-]+", text)) <= there
    for variable in re.findall(r"^\| `--.*`(TRITONCLIP_\w+)` \|", text, re.MULTILINE):
        assert variable in said
