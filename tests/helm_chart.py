"""The Helm chart as helm renders it, without a cluster: with its defaults, or with a set of values of its ci/."""

import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "deploy/helm/tritonclip"
TOOLS = ROOT / "build/helm"
RELEASE, NAMESPACE = "try", "vision"
SETS: dict[str, tuple[str, ...]] = {"default": ()} | {
    path.name.removesuffix("-values.yaml"): ("--values", str(path)) for path in sorted((CHART / "ci").glob("*.yaml"))
}

# The oldest Kubernetes of Chart.yaml, and the newest that kubernetes-validate knows.
OLDEST, NEWEST = "1.30", "1.37"

Object = dict[str, Any]


def helm(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """Run helm; what it said, and its exit code."""
    assert (TOOLS / "helm").is_file(), "there is no build/helm/helm: `make test-helm` makes it"
    return subprocess.run([TOOLS / "helm", *map(str, arguments)], capture_output=True, text=True, timeout=300)


def refused(*arguments: str) -> str:
    """Why helm does not render the chart with these arguments."""
    done = template(*arguments)
    assert done.returncode != 0, done.stdout
    return done.stderr


def template(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return helm("template", RELEASE, CHART, "--namespace", NAMESPACE, *arguments)


@cache
def rendered(*arguments: str) -> str:
    """The chart's objects as helm writes them."""
    done = template(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def objects(name: str) -> list[Object]:
    """The objects of a set. Nobody may change them."""
    return [document for document in yaml.safe_load_all(rendered(*SETS[name])) if document]


def of_kind(name: str, kind: str, component: str | None = None) -> list[Object]:
    """The objects of a kind in a set, of one component or of any."""
    found = [document for document in objects(name) if document["kind"] == kind]
    return [
        document
        for document in found
        if component in (None, document["metadata"]["labels"]["app.kubernetes.io/component"])
    ]


def pods(name: str) -> Iterator[tuple[Object, Object]]:
    """What makes pods in a set, with what the pods are to be."""
    for document in objects(name):
        if document["kind"] in ("Deployment", "Job"):
            yield document, document["spec"]["template"]


def container(document: Object) -> Object:
    """The one container that serves, or does the Job's work at its end."""
    (found,) = document["spec"]["template"]["spec"]["containers"]
    return dict(found)


def kubernetes_validate(file: Path, version: str) -> "subprocess.CompletedProcess[str]":
    program = TOOLS / "python/bin/kubernetes-validate"
    return subprocess.run(
        [program, "--strict", "--no-warn", "--quiet", "-k", version, file], capture_output=True, text=True, timeout=600
    )


def leaves(values: object, path: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(values, dict) and values:
        for key, value in values.items():
            yield from leaves(value, f"{path}.{key}" if path else key)
    else:
        yield path, values


DEFAULTS = dict(leaves(yaml.safe_load((CHART / "values.yaml").read_text())))


def properties(schema: dict[str, Any], node: dict[str, Any], path: str = "") -> Iterator[str]:
    node = schema["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node
    if "properties" in node:
        for key, value in node["properties"].items():
            yield from properties(schema, value, f"{path}.{key}" if path else key)
    else:
        yield path
