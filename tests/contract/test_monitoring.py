"""The monitoring files hold together: Prometheus takes them, alerts fire when they must, panels show what they name."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.prometheus import ROOT, promtool
from tests.promql import (
    ALERTS,
    CONFIG,
    DASHBOARD,
    MONITORING,
    alert_expressions,
    alert_rules,
    dashboard_expressions,
    metric_names,
    panels,
)
from tritonclip_server.embedded.server import METRICS_CONFIG
from tritonclip_server.export.configs import CPU_MAX_QUEUE

ALERT_TESTS = sorted((ROOT / "tests" / "data" / "monitoring").glob("*.test.yml"))
EXPRESSIONS = alert_expressions() | dashboard_expressions()
PROVISIONING = MONITORING / "grafana" / "provisioning"


def headings(document: Path) -> set[str]:
    """The anchors of a Markdown file's headings that are plain words."""
    lines = document.read_text(encoding="utf-8").splitlines()
    return {line.lstrip("# ").lower().replace(" ", "-") for line in lines if line.startswith("#")}


def test_prometheus_accepts_its_configuration() -> None:
    promtool("check", "config", CONFIG)
    promtool("check", "rules", ALERTS)


def test_each_alert_fires_when_it_must_and_not_before() -> None:
    promtool("test", "rules", *ALERT_TESTS)


@pytest.mark.parametrize("name", alert_expressions())
def test_each_alert_is_tested_both_ways(name: str) -> None:
    checks = [
        check
        for file in ALERT_TESTS
        for case in yaml.safe_load(file.read_text())["tests"]
        for check in case["promql_expr_test"]
        if f'alertname="{name}", alertstate="firing"' in check["expr"]
    ]
    assert {bool(check["exp_samples"]) for check in checks} == {True, False}


@pytest.mark.parametrize("rule", alert_rules(), ids=lambda rule: rule["alert"])
def test_each_alert_says_what_to_do(rule: dict[str, Any]) -> None:
    assert "for" in rule
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    document, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert anchor == rule["alert"].lower()
    assert anchor in headings(ROOT / document)


def test_a_queue_can_hold_what_the_alert_takes_for_nearly_full() -> None:
    (limit,) = re.findall(r"> (\d+)$", alert_expressions()["TritonRefusing"].strip())
    assert CPU_MAX_QUEUE / 2 < int(limit) < CPU_MAX_QUEUE


def test_prometheus_finds_every_replica_by_its_service_name() -> None:
    jobs = {job["job_name"]: job for job in yaml.safe_load(CONFIG.read_text())["scrape_configs"]}
    found = {
        name: [(source["names"], source["type"], source["port"]) for source in job.get("dns_sd_configs", [])]
        for name, job in jobs.items()
    }
    assert found == {
        "triton": [(["triton", "triton-second"], "A", 8002)],
        "gateway": [(["gateway"], "A", 8080)],
        "prometheus": [],
    }
    assert jobs["prometheus"]["static_configs"] == [{"targets": ["localhost:9090"]}]


def test_the_dashboard_is_whole() -> None:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    assert (dashboard["uid"], dashboard["title"]) == ("tritonclip", "tritonclip")
    assert [variable["name"] for variable in dashboard["templating"]["list"]] == ["datasource", "model"]
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    # No data source but the one that is chosen: anywhere, in panels, targets and variables.
    assert set(re.findall(r'"uid": "([^"]*)"', json.dumps(dashboard))) == {"tritonclip", "${datasource}"}


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_each_panel_is_whole(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"]
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]
    assert panel["datasource"]["uid"] == "${datasource}"
    references = [target["refId"] for target in panel["targets"]]
    assert len(set(references)) == len(references)
    for target in panel["targets"]:
        assert target["datasource"]["uid"] == "${datasource}"
        assert target["legendFormat"] or panel["type"] == "stat"


def test_no_panel_covers_another() -> None:
    places = [panel["gridPos"] for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for a, b in itertools.combinations(places, 2):
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        assert beside or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"], (a, b)


def test_prometheus_parses_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    """As rules, since promtool parses nothing else: a wrong function, label or bracket is refused."""
    rules = [{"record": f"panel:{i}", "expr": expr} for i, expr in enumerate(dashboard_expressions().values())]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", file)


@pytest.mark.parametrize("where", EXPRESSIONS)
def test_each_expression_reads_a_metric(where: str) -> None:
    assert all(re.match(r"nv_|tritonclip_gateway_|up$", name) for name in metric_names(EXPRESSIONS[where]))
    assert metric_names(EXPRESSIONS[where])


def test_only_quantiles_that_triton_is_told_to_keep_are_shown() -> None:
    kept = {pair.split(":")[0] for pair in METRICS_CONFIG[1].removeprefix("summary_quantiles=").split(",")}
    shown = set(re.findall(r'quantile="([^"]+)"', " ".join(EXPRESSIONS.values())))
    assert shown == kept == {"0.5", "0.95", "0.99"}


def test_grafana_is_provisioned() -> None:
    (source,) = yaml.safe_load((PROVISIONING / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    assert source["jsonData"]["timeInterval"] == yaml.safe_load(CONFIG.read_text())["global"]["scrape_interval"]
    (provider,) = yaml.safe_load((PROVISIONING / "dashboards" / "tritonclip.yml").read_text())["providers"]
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"  # where compose mounts grafana/dashboards
