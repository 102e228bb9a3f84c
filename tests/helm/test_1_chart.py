"""The chart as a whole: helm takes it, Kubernetes' own schemas take its objects, every value is used and checked."""

import json
import tarfile
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from tests.helm_chart import (
    CHART,
    DEFAULTS,
    NEWEST,
    OLDEST,
    RELEASE,
    ROOT,
    SETS,
    helm,
    kubernetes_validate,
    leaves,
    objects,
    of_kind,
    properties,
    refused,
    rendered,
    template,
)  # fmt: skip
from tritonclip import __version__
from tritonclip_server.export.variants import default_variant

# Of KEDA's and the Prometheus operator's objects; tests/data/helm/README.md says where they come from.
SCHEMAS = {
    schema["properties"]["kind"]["const"]: schema
    for schema in (json.loads(path.read_text()) for path in (ROOT / "tests/data/helm").glob("*.json"))
}
LONGEST_NAME = 63

by_set = pytest.mark.parametrize("name", SETS)


@by_set
def test_helm_finds_no_fault(name: str) -> None:
    done = helm("lint", "--strict", CHART, *SETS[name])
    assert done.returncode == 0, done.stdout
    assert "[WARNING]" not in done.stdout


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_kubernetes_schemas_take_every_object_of_every_set(version: str, tmp_path: Path) -> None:
    file = tmp_path / "objects.yaml"
    different = {json.dumps(document): document for name in SETS for document in objects(name)}
    file.write_text(yaml.safe_dump_all(different.values()))
    done = kubernetes_validate(file, version)
    assert done.returncode == 0, done.stdout + done.stderr


def test_kubernetes_schemas_would_find_a_misspelt_field(tmp_path: Path) -> None:
    file = tmp_path / "objects.yaml"
    file.write_text(rendered().replace("readinessProbe:", "readynessProbe:"))
    done = kubernetes_validate(file, NEWEST)
    assert done.returncode != 0
    assert "readynessProbe" in done.stdout


def faults(document: dict[str, Any]) -> list[str]:
    return [error.message for error in jsonschema_rs.validator_for(SCHEMAS[document["kind"]]).iter_errors(document)]


@by_set
def test_the_schemas_of_keda_and_the_prometheus_operator_take_theirs(name: str) -> None:
    others = [document for document in objects(name) if document["kind"] in SCHEMAS]
    assert [fault for document in others for fault in faults(document)] == []


@pytest.mark.parametrize("kind", SCHEMAS)
def test_those_schemas_would_find_a_misspelt_field(kind: str) -> None:
    document = json.loads(json.dumps(of_kind("keda", kind)[0]))
    document["spec"]["no such field"] = 1
    assert any("no such field" in fault for fault in faults(document))


def test_the_oldest_kubernetes_is_the_one_that_was_tested() -> None:
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"] == f">={OLDEST}.0-0"
    assert "incompatible with Kubernetes" in refused("--kube-version", "1.29.0")
    rendered("--kube-version", f"{OLDEST}.0")


@by_set
def test_objects_have_names_of_their_own(name: str) -> None:
    named = [(document["kind"], document["metadata"]["name"]) for document in objects(name)]
    assert len(set(named)) == len(named)
    assert all(document["metadata"]["name"].startswith(f"{RELEASE}-tritonclip") for document in objects(name))


def test_the_longest_names_are_short_enough() -> None:
    models = [{"name": "m" * 16, "variant": "demo"}]
    done = helm("template", "r" * 53, CHART, "--set-json", f"models={json.dumps(models)}", *SETS["keda"])
    names = [document["metadata"]["name"] for document in yaml.safe_load_all(done.stdout) if document]
    assert len(set(names)) > 5
    assert max(map(len, names)) <= LONGEST_NAME


@by_set
def test_labels_are_texts_whatever_they_look_like(name: str) -> None:
    """A release may be called true, which YAML takes for something else."""
    done = helm("template", "true", CHART, *SETS[name])
    for document in yaml.safe_load_all(done.stdout):
        assert all(isinstance(value, str) for value in document["metadata"]["labels"].values())


@pytest.mark.parametrize("release", ["1e3", "vision.clip"])
def test_a_release_has_a_name_that_a_service_may_have(release: str) -> None:
    done = helm("template", release, CHART)
    assert done.returncode != 0
    assert f"the release's name {release}: a Service's name begins with a letter and has no dots" in done.stderr


GIVEN = {name: dict(leaves(yaml.safe_load(Path(given[1]).read_text()))) for name, given in SETS.items() if given}


def setting(values: dict[str, object], path: str) -> object:
    """A setting of a set, also where its leaves are deeper: a map that is empty by default."""
    deeper = {key.removeprefix(f"{path}."): value for key, value in values.items() if key.startswith(f"{path}.")}
    return values.get(path, deeper or None)


@pytest.mark.parametrize("path", DEFAULTS)
def test_every_value_is_given_by_a_set_and_changes_what_is_rendered(path: str) -> None:
    giving = [name for name, values in GIVEN.items() if setting(values, path) not in (None, DEFAULTS[path])]
    assert giving, "no set of values gives this one"
    without = f"{path}={json.dumps(DEFAULTS[path])}"
    if isinstance(setting(GIVEN[giving[0]], path), dict):  # helm merges maps: an empty one takes nothing away
        without = f"{path}=null"
    same = [name for name in giving if rendered(*SETS[name]) == template(*SETS[name], "--set-json", without).stdout]
    assert same == []


def test_the_schema_has_every_value_and_no_other() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    known = set(properties(schema, schema)) - {"global"}
    opened = {"triton.resources", "gateway.resources", "export.resources"}  # by any resource's name
    given = {path if not path.startswith(tuple(opened)) else path.rpartition(".")[0] for path in DEFAULTS}
    assert known == given


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("gateway.arg=1", "'arg' not allowed"),
        ("models[0].varaint=x", "'varaint' not allowed"),
        ("models[0].name=Clip", "'Clip' does not match"),
        ("models[0].name=a-name-that-is-too-long", "maxLength"),
        ("models[0].name=clip", "missing property 'variant'"),
        ("models=null", "missing property 'models'"),
        ("triton=null", "missing property 'triton'"),
        ("triton.replicas=-1", "/triton/replicas"),
        ("triton.resources.requests.memory=8 GB", "does not match"),
        ("triton.gpu.count=0", "/triton/gpu/count"),
        ("triton.autoscaling.engine=gpu", "'none', 'keda', 'hpa'"),
        ("networkPolicy.metrics[0].podselector=x", "'podselector' not allowed"),
    ],
)
def test_the_schema_refuses_and_says_what(given: str, says: str) -> None:
    assert says in refused("--set", given)


def test_a_model_is_exported_or_pulled_and_not_both() -> None:
    assert "oneOf" in refused(
        "--set", "models[0].name=a,models[0].variant=b,models[0].pull.image=c,models[0].pull.args={d}"
    )


TWICE = "models[0].name=a,models[0].variant=x,models[1].name=a,models[1].variant=y"
KEDA = "triton.autoscaling.engine=keda"
SEEN = "monitoring.podMonitor=true,networkPolicy.enabled=false"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (TWICE, "models: two are named a"),
        (
            KEDA,
            "models: clip is scaled by metrics, by labels that the PodMonitor gives them: set monitoring.podMonitor",
        ),
        (f"{SEEN},{KEDA},triton.autoscaling.minReplicas=9", "clip has autoscaling.minReplicas above"),
        (
            f"{SEEN},triton.autoscaling.engine=hpa,triton.autoscaling.minReplicas=0",
            "clip has autoscaling.minReplicas 0, which only the engine keda can do",
        ),
        ("gateway.autoscaling.minReplicas=9", "gateway: autoscaling.minReplicas is above"),
        ("monitoring.podMonitor=true", "networkPolicy.metrics lets nobody in"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(given: str, says: str) -> None:
    assert says in refused("--set", given)


def test_the_versions_are_the_packages_and_the_composes() -> None:
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == __version__
    assert DEFAULTS["models"] == [{"name": "clip", "variant": default_variant().name, "exportArgs": [], "triton": {}}]


def test_a_package_holds_the_alerts_and_the_dashboard_and_no_sets(tmp_path: Path) -> None:
    """They are links within the repository, to the files that the compose stack uses."""
    done = helm("package", CHART, "--destination", tmp_path)
    assert done.returncode == 0, done.stderr
    (package,) = tmp_path.iterdir()
    with tarfile.open(package) as archive:
        archive.extractall(tmp_path, filter="data")
    packed = tmp_path / "tritonclip"
    for name in ("files/alerts.yml", "files/tritonclip.json"):
        assert not (packed / name).is_symlink()
        assert (packed / name).read_bytes() == (CHART / name).read_bytes()
    assert not (packed / "ci").exists()


def test_the_notes_name_what_is_there() -> None:
    done = helm("install", RELEASE, CHART, "--dry-run=client", *SETS["several"])
    notes = done.stdout.rpartition("NOTES:")[2]
    assert "clip, clip-320" in notes
    assert "create secret generic clip-keys --from-file=keys.json" in notes
    assert f"service/{RELEASE}-tritonclip-gateway 8080" in notes
