"""Upgrades, before a stand-in of Kubernetes' API that knows one Deployment: weights are never changed under a name."""

import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from tests.helm_chart import CHART, NAMESPACE, RELEASE, SETS, container, helm, objects, of_kind
from tritonclip_server.export.variants import default_variant

SAME = {"name": "clip", "variant": default_variant().name}


def discovery() -> dict[str, Any]:
    """What an API server says of the kinds of object that the chart makes by default."""
    kinds = sorted({(document["apiVersion"], document["kind"]) for document in objects("default")})
    groups = [version.partition("/") for version in sorted({version for version, _ in kinds if "/" in version})]
    answers: dict[str, Any] = {
        "/version": {"major": "1", "minor": "37", "gitVersion": "v1.37.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {
            "kind": "APIGroupList",
            "apiVersion": "v1",
            "groups": [
                {"name": name, "versions": [{"groupVersion": f"{name}/{version}", "version": version}]}
                for name, _, version in groups
            ],
        },
    }
    for version in {version for version, _ in kinds}:
        answers[f"/apis/{version}" if "/" in version else f"/api/{version}"] = {
            "kind": "APIResourceList",
            "groupVersion": version,
            "resources": [
                {"name": f"{kind.lower()}s", "kind": kind, "namespaced": True, "verbs": ["get"]}
                for each, kind in kinds
                if each == version
            ],
        }
    return answers


class Cluster(BaseHTTPRequestHandler):
    """What helm asks of an API server when a chart looks an object up, and before it would make its own."""

    answers: ClassVar[dict[str, Any]] = {}

    def do_GET(self) -> None:
        missing = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
        found = self.answers.get(self.path.partition("?")[0])
        body = json.dumps(found or missing).encode()
        self.send_response(200 if found else 404)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The file that says where the stand-in is, on which the chart's defaults are installed."""
    (running,) = json.loads(json.dumps(of_kind("default", "Deployment", "triton")))
    # What helm writes on all that it installs.
    running["metadata"]["annotations"] |= {
        "meta.helm.sh/release-name": RELEASE,
        "meta.helm.sh/release-namespace": NAMESPACE,
    }
    place = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{running['metadata']['name']}"
    Cluster.answers = discovery() | {place: running}
    with ThreadingHTTPServer(("127.0.0.1", 0), Cluster) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "nobody"}}],
            "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
            "users": [{"name": "nobody", "user": {}}],
        }
        file = tmp_path_factory.mktemp("cluster") / "config"
        file.write_text(yaml.safe_dump(config))
        yield file
        server.shutdown()


def render(cluster: Path, models: list[dict[str, Any]], release: str = RELEASE) -> tuple[int, str]:
    done = helm(
        "template", release, CHART, "--namespace", NAMESPACE, "--dry-run=server", "--kubeconfig", cluster,
        "--disable-openapi-validation", "--set-json", f"models={json.dumps(models)}",
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("other", [{"variant": "ViT-B-32/openai"}, {"exportArgs": ["--image-size=320"]}])
def test_a_models_weights_are_not_changed(cluster: Path, other: dict[str, Any]) -> None:
    code, said = render(cluster, [SAME | other])
    assert code != 0
    assert f"models: clip serves {default_variant().name}, and vectors of different weights must not be mixed" in said


def test_nor_is_its_export_replaced_by_what_is_pulled(cluster: Path) -> None:
    code, said = render(cluster, [{"name": "clip", "pull": {"image": "x", "args": []}}])
    assert code != 0
    assert "models: clip serves" in said


def test_the_other_variant_is_added_beside_it(cluster: Path) -> None:
    code, said = render(cluster, [SAME, {"name": "vit", "variant": "ViT-B-32/openai"}])
    assert code == 0, said


def test_another_release_is_its_own(cluster: Path) -> None:
    code, said = render(cluster, [{"name": "clip", "variant": "ViT-B-32/openai"}], release="blue")
    assert code == 0, said


@pytest.mark.parametrize("name", SETS)
def test_a_rollout_takes_no_pod_away_before_another_serves(name: str) -> None:
    for document in of_kind(name, "Deployment"):
        strategy = document["spec"]["strategy"]["rollingUpdate"]
        assert strategy["maxUnavailable"] == (1 if name == "pull" and strategy["maxSurge"] == 0 else 0)


NOT_THE_JOBS = ("triton.replicas=5", "gateway.replicas=3", "image.tritonRelease=26.12-py3", "monitoring.dashboard=true")
THE_JOBS = (
    "export.environment.HF_ENDPOINT=x", "export.tokenSecret=hub", "export.resources.requests.cpu=3",
    "image.pullSecrets={registry}", "storage.existingClaim=other",
)  # fmt: skip
THE_EDITIONS = ("models[0].variant=b,models[0].name=clip", "image.tag=0.3.0", "image.registry=example.org")


def job(*arguments: str) -> tuple[str, Any, str]:
    """A Job's name, what it does, and the mark that it leaves."""
    done = helm("template", RELEASE, CHART, "--show-only", "templates/export-job.yaml", *arguments)
    document = yaml.safe_load(done.stdout)
    *_, place, edition = container(document)["command"]
    return document["metadata"]["name"], document["spec"], f"{place}.{edition}"


@pytest.mark.parametrize("change", [*NOT_THE_JOBS, *THE_JOBS, *THE_EDITIONS])
def test_a_job_has_another_name_where_it_would_be_changed(change: str) -> None:
    """Kubernetes refuses to change a Job; and one of the same name that has ended is not run again."""
    (name, spec, mark), (new_name, new_spec, new_mark) = job(), job("--set", change)
    assert (new_spec != spec) == (new_name != name) == (change not in NOT_THE_JOBS)
    assert (new_mark != mark) == (change in THE_EDITIONS)


def test_options_of_the_export_make_another_edition() -> None:
    model = json.dumps([SAME | {"exportArgs": ["--precision=bf16"]}])
    assert job("--set-json", f"models={model}")[2] != job()[2]


def test_a_later_chart_changes_no_pod_by_its_number_alone(tmp_path: Path) -> None:
    """Nor a Job, which would be refused."""
    assert helm("package", CHART, "--version", "9.9.9", "--destination", tmp_path).returncode == 0
    (package,) = tmp_path.iterdir()
    later = yaml.safe_load_all(helm("template", RELEASE, package, "--namespace", NAMESPACE).stdout)
    specs = {document["metadata"]["name"]: document["spec"] for document in later if document["kind"] != "ConfigMap"}
    assert specs == {document["metadata"]["name"]: document["spec"] for document in objects("default")}


def test_a_new_edition_takes_the_marks_of_older_ones_away(tmp_path: Path) -> None:
    """Else pods that go back to an older one would not wait until it is there again."""
    (job,) = of_kind("default", "Job")
    shell, *arguments, place, edition = container(job)["command"]
    for other in (".exported.clip.0", ".exported.clip.1", ".exported.clip-320.0"):
        (tmp_path / other).touch()
    (tmp_path / ".clip.8auek5ji.partial").mkdir()  # what an export that was interrupted leaves
    subprocess.run([shell, *arguments, tmp_path / Path(place).name, edition], check=True)
    assert {mark.name for mark in tmp_path.iterdir()} == {
        ".exported.clip-320.0", f".exported.clip.{edition}", ".clip.8auek5ji.partial",
    }  # fmt: skip
