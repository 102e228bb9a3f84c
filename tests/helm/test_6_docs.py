"""docs/kubernetes.md: what it shows can be applied, what it names is there, and its figures are the chart's."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helm_chart import (
    CHART,
    DEFAULTS,
    NAMESPACE,
    NEWEST,
    ROOT,
    container,
    helm,
    kubernetes_validate,
    of_kind,
    properties,
)  # fmt: skip
from tritonclip_server.export.labels_cli import parser as labels_parser
from tritonclip_server.gateway.settings import Limits

GUIDE = (ROOT / "docs/kubernetes.md").read_text(encoding="utf-8")
BLOCKS = [(text, yaml.safe_load(text)) for text in re.findall(r"^```yaml\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)]
((JOB_TEXT, JOB),) = [(text, document) for text, document in BLOCKS if "kind" in document]
(ADAPTER,) = [document["rules"]["external"] for _, document in BLOCKS if "rules" in document]
VALUES = [text for text, document in BLOCKS if not {"kind", "rules"} & set(document)]
RELEASE = "tritonclip"


def installed(*arguments: str) -> list[dict[str, Any]]:
    done = helm("template", RELEASE, CHART, "--namespace", NAMESPACE, *arguments)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


@pytest.mark.parametrize("values", VALUES)
def test_values_can_be_installed(values: str, tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(values)
    assert installed("--values", str(file))


def test_the_job_of_a_label_set_is_valid(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(JOB_TEXT)
    done = kubernetes_validate(file, NEWEST)
    assert done.returncode == 0, done.stdout


def test_the_job_of_a_label_set_fits_the_release() -> None:
    name, *arguments = container(JOB)["args"]
    options = labels_parser().parse_args(arguments)
    assert (name, str(options.repository), options.activate) == ("labels", "/models/clip", True)
    made = {(document["kind"], document["metadata"]["name"]): document for document in installed()}
    given = {variable["name"]: variable for variable in container(JOB)["env"]}
    host = given["TRITONCLIP_URL"]["value"].removeprefix("grpc://").removesuffix(":8001")
    assert ("Service", host) in made
    volumes = {volume["name"]: volume for volume in JOB["spec"]["template"]["spec"]["volumes"]}
    assert ("PersistentVolumeClaim", volumes["models"]["persistentVolumeClaim"]["claimName"]) in made
    allowed = made["NetworkPolicy", host]["spec"]["ingress"][0]["from"]
    labels = JOB["spec"]["template"]["metadata"]["labels"]
    assert any(peer["podSelector"]["matchLabels"].items() <= labels.items() for peer in allowed)


def test_objects_that_the_guide_names_are_made() -> None:
    made = {document["metadata"]["name"] for document in installed()}
    made |= {re.sub(r"-[0-9a-f]{8}$", "-DIGEST", name) for name in made} | {f"{RELEASE}-keys"}
    named = set(re.findall(r"\btritonclip-(?:gateway|keys|models|triton|export)[\w-]*", GUIDE))
    assert len(named) == 5
    assert named <= made


def test_values_that_the_guide_names_exist() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    known = set(properties(schema, schema))
    sections = "|".join(key for key in schema["properties"] if key not in ("global", "models"))
    named = set(re.findall(rf"`((?:{sections})\.[\w.]+)`", GUIDE))
    assert len(named) > 8
    assert [name for name in named if not any(f"{path}.".startswith(f"{name}.") for path in known)] == []


@pytest.mark.parametrize(("index", "trigger"), [(0, "queue-over-compute"), (1, "pending-requests")])
def test_the_adapter_asks_what_keda_asks(index: int, trigger: str) -> None:
    (scaler,) = [
        document["spec"] for document in of_kind("zero", "ScaledObject") if document["spec"]["minReplicaCount"] == 1
    ]
    (asked,) = [each["metadata"]["query"] for each in scaler["triggers"] if each["name"] == trigger]
    of = r'namespace="[^"]*", app_kubernetes_io_instance="[^"]*", tritonclip_model="[^"]*"'
    assert ADAPTER[index]["metricsQuery"] == re.sub(of, "<<.LabelMatchers>>", asked)
    (hpa,) = of_kind("adapter", "HorizontalPodAutoscaler", "triton")
    assert ADAPTER[index]["name"]["as"] == hpa["spec"]["metrics"][index]["external"]["metric"]["name"]


def memory(kind: str) -> str:
    return str(DEFAULTS[f"triton.resources.{kind}.memory"]).removesuffix("Gi")


def test_figures_are_the_charts() -> None:
    guide = " ".join(GUIDE.split())
    limits = Limits()
    for named in (
        f"| {DEFAULTS['triton.resources.requests.cpu']}, no limit |",
        f"| {memory('requests')} GiB, at most {memory('limits')} |",
        f"serves on for {DEFAULTS['triton.preStopSeconds']} s",
        f"more than {DEFAULTS['triton.autoscaling.waitMilliseconds']} ms each",
        f"Beyond {DEFAULTS['triton.autoscaling.pendingRequests']} each",
        f"Above {DEFAULTS['triton.autoscaling.queueOverCompute']}, requests wait longer",
        f"each lets {limits.items_in_flight} images be under way",
        f"{limits.bytes_in_flight // 2**20} MiB of bodies at work",
        f"{limits.cached_text_bytes // 2**20} MiB of cached texts",
        f"for bodies of {limits.body_bytes // 2**20} MB",
    ):
        assert named in guide, named
