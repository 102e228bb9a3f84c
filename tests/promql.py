"""What stands in the monitoring files: their expressions, and the metrics that those name."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

MONITORING = Path(__file__).resolve().parents[1] / "deploy" / "monitoring"
ALERTS = MONITORING / "alerts.yml"
CONFIG = MONITORING / "prometheus.yml"
DASHBOARD = MONITORING / "grafana" / "dashboards" / "tritonclip.json"

_GPU_METRICS = Path(__file__).parent / "data" / "monitoring" / "gpu-metrics.txt"

# What Grafana puts in place of its variables, here with everything chosen; tests look at the last minutes at once.
GRAFANA_VARIABLES = {"$__rate_interval": "5m", "$model": ".+"}

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"|' + r"'(?:[^'\\]|\\.)*'|`[^`]*`")
_COMMENT = re.compile(r"#[^\n]*")
_NAME_MATCHER = re.compile(r'__name__\s*=\s*"([^"]+)"')
_SELECTOR = re.compile(r"\{[^{}]*\}")
_RANGE = re.compile(r"\[[^\[\]]*\]")
_LABEL_LIST = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^()]*\)", re.IGNORECASE)
# A word that no digit, letter or dot stands before (5m, 1e6) and no parenthesis follows (rate(…), start()).
_WORD = re.compile(r"(?<![\w:.])([a-zA-Z_:][\w:]*)\b(?!\s*\()")
_KEYWORDS = frozenset({"and", "or", "unless", "atan2", "bool", "offset", "group_left", "group_right", "inf", "nan"})


def metric_names(expression: str) -> set[str]:
    """The metrics that a PromQL expression reads: not its functions, labels, label values, durations or keywords.

    `{__name__="x"}` counts as x. The expression must be one that Prometheus accepts.
    """
    names = set(_NAME_MATCHER.findall(expression))
    # Strings first: whatever stands in one is no syntax. What is left in braces and brackets is then free of them.
    rest = _COMMENT.sub(" ", _STRING.sub('""', expression))
    for part in (_SELECTOR, _RANGE, _LABEL_LIST):
        rest = part.sub(" ", rest)
    return names | {word for word in _WORD.findall(rest) if word.lower() not in _KEYWORDS}


def alert_rules() -> list[dict[str, Any]]:
    """The committed alerts, as their file has them."""
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    """The dashboard's panels that show something: all but the titles of rows."""
    return [panel for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"] if panel["type"] != "row"]


def alert_expressions() -> dict[str, str]:
    """Every alert's expression, by its name."""
    return {rule["alert"]: rule["expr"] for rule in alert_rules()}


def dashboard_expressions() -> dict[str, str]:
    """Every expression of the dashboard by "title, reference", with Grafana's variables filled in."""
    return {
        f"{panel['title']}, {target['refId']}": fill_in(target["expr"])
        for panel in panels()
        for target in panel["targets"]
    }


def named_metrics() -> set[str]:
    """Every metric that the alerts or the dashboard name."""
    expressions = [*alert_expressions().values(), *dashboard_expressions().values()]
    return set[str]().union(*map(metric_names, expressions))


def gpu_metrics() -> set[str]:
    """The metrics of Triton's documentation that exist on a GPU host alone."""
    lines = _GPU_METRICS.read_text(encoding="utf-8").splitlines()
    return {line for line in lines if not line.startswith("#")}


def fill_in(expression: str) -> str:
    """An expression as Grafana sends it; a ValueError names a variable that is not known here."""
    for variable, value in GRAFANA_VARIABLES.items():
        expression = expression.replace(variable, value)
    if "$" in expression:
        raise ValueError(f"an unknown variable in {expression!r}")
    return expression
