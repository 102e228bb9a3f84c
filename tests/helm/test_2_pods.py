"""What the chart's pods are: those of the compose file, as hardened as there, probed, and let end in peace."""

from pathlib import Path
from typing import Any

import pytest

from tests.compose_files import services
from tests.helm_chart import RELEASE, SETS, Object, container, of_kind, pods
from tritonclip_server.export.cli import parser as export_parser
from tritonclip_server.gateway.cli import parser as gateway_parser
from tritonclip_server.gateway.settings import Limits

COMPOSE = services("docker-compose.yml")
DRAIN_SECONDS = 45  # of the compose file's stop_grace_period, which its own test holds against what a stop takes

by_set = pytest.mark.parametrize("name", SETS)


def containers(template: Object) -> list[Object]:
    return [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]


def mounts(of: Object) -> dict[str, bool]:
    """Where a container's volumes are, and whether it may write there."""
    return {mount["mountPath"]: not mount.get("readOnly", False) for mount in of["volumeMounts"]}


def compose_mounts(service: str) -> dict[str, bool]:
    volumes = [volume.split(":") for volume in COMPOSE[service]["volumes"]]
    written = {path: mode != ["ro"] for _, path, *mode in volumes}
    return written | dict.fromkeys(COMPOSE[service]["tmpfs"], True)


@by_set
def test_pods_meet_the_restricted_standard(name: str) -> None:
    """Kubernetes' strictest pod security standard, and no token of its API, as nothing here calls it."""
    for _, template in pods(name):
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"} & set(spec)
        assert {kind for volume in spec["volumes"] for kind in volume} <= {
            "name", "emptyDir", "secret", "persistentVolumeClaim",
        }  # fmt: skip
        for each in containers(template):
            assert each["securityContext"] == {
                "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
            }  # fmt: skip
            assert not any("hostPort" in port for port in each.get("ports", []))


@by_set
def test_pods_run_as_the_user_of_the_compose_file(name: str) -> None:
    user, group = map(int, COMPOSE["triton"]["user"].split(":"))
    for _, template in pods(name):
        context = template["spec"]["securityContext"]
        assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (user, group, group)


@by_set
def test_services_are_no_environment(name: str) -> None:
    """The Service try-tritonclip would give TRY_TRITONCLIP_PORT, and one called tritonclip our own TRITONCLIP_…"""
    assert all(template["spec"]["enableServiceLinks"] is False for _, template in pods(name))


@by_set
def test_every_container_has_requests_and_a_memory_limit(name: str) -> None:
    for _, template in pods(name):
        for each in containers(template):
            assert set(each["resources"]["requests"]) == {"cpu", "memory"}, each["name"]
            assert "memory" in each["resources"]["limits"]
            assert "cpu" not in each["resources"]["limits"]  # a processor that is idle is nobody's loss


def test_images_are_those_of_the_compose_file() -> None:
    for kind, component in (("Job", "export"), ("Deployment", "triton"), ("Deployment", "gateway")):
        (document,) = of_kind("default", kind, component)
        assert {each["image"] for each in containers(document["spec"]["template"])} == {COMPOSE[component]["image"]}


def test_images_come_from_the_registry_by_the_tag_that_was_named() -> None:
    images = {each["image"] for _, template in pods("several") for each in containers(template)}
    where = "registry.example.org/team/tritonclip"
    assert images == {f"{where}/export:0.2.1", f"{where}/triton:0.2.1-26.12-py3", f"{where}/gateway:0.2.1"}
    assert all(template["spec"]["imagePullSecrets"] == [{"name": "registry"}] for _, template in pods("several"))


@by_set
def test_triton_has_the_flags_of_the_compose_file(name: str) -> None:
    start, *flags = COMPOSE["triton"]["command"]
    for document in of_kind(name, "Deployment", "triton"):
        model = document["metadata"]["labels"]["tritonclip/model"]
        expected = [f"--model-repository=/models/{model}" if "--model-repo" in flag else flag for flag in flags]
        assert container(document)["args"] == [start, *expected]
        assert "command" not in container(document)  # the image's own entry point, as in compose


def test_triton_has_the_volumes_of_the_compose_file_and_shared_memory() -> None:
    (document,) = of_kind("default", "Deployment", "triton")
    assert mounts(container(document)) == compose_mounts("triton") | {"/dev/shm": True}
    (memory,) = [volume for volume in document["spec"]["template"]["spec"]["volumes"] if volume["name"] == "shm"]
    assert memory["emptyDir"] == {"medium": "Memory", "sizeLimit": "2Gi"}
    assert COMPOSE["triton"]["shm_size"] == "2gb"


def test_the_exporter_has_the_volumes_and_the_command_of_the_compose_file() -> None:
    (job,) = of_kind("default", "Job")
    (export,) = job["spec"]["template"]["spec"]["initContainers"]
    assert mounts(export) == compose_mounts("export")
    assert [arg for arg in export["args"] if "--into" not in arg] == [
        arg for arg in COMPOSE["export"]["command"] if "--into" not in arg
    ]


def options_of(job: Object) -> Any:
    (export,) = job["spec"]["template"]["spec"]["initContainers"]
    name, *arguments = export["args"]
    assert name == "export"
    return export_parser().parse_args(arguments)


@by_set
def test_the_exporter_understands_its_options(name: str) -> None:
    for job in of_kind(name, "Job"):
        options = options_of(job)
        assert str(options.into) == f"/models/{job['metadata']['labels']['tritonclip/model']}"
        assert (options.host, options.if_changed) == ("gpu", True)
    if name == "several":
        assert [(options_of(job).image_size, options_of(job).precision) for job in of_kind(name, "Job")] == [
            (None, "auto"), (384, "bf16"),
        ]  # fmt: skip


def test_the_exporter_gets_its_token_from_a_secret_and_its_environment() -> None:
    for job in of_kind("several", "Job"):
        (export,) = job["spec"]["template"]["spec"]["initContainers"]
        given = {variable["name"]: variable.get("value", variable.get("valueFrom")) for variable in export["env"]}
        assert given["HF_TOKEN"] == {"secretKeyRef": {"name": "hub", "key": "token"}}
        assert given["https_proxy"] == "http://proxy.example.org:3128"
        assert "HF_TOKEN" in COMPOSE["export"]["environment"]


@by_set
def test_triton_waits_for_the_edition_that_its_own_job_makes(name: str) -> None:
    jobs = {job["metadata"]["labels"]["tritonclip/model"]: job for job in of_kind(name, "Job")}
    for document in of_kind(name, "Deployment", "triton"):
        job = jobs.pop(document["metadata"]["labels"]["tritonclip/model"], None)
        (first,) = document["spec"]["template"]["spec"]["initContainers"]
        if job is None:
            assert first["name"] == "pull"
            continue
        *_, place, edition = container(job)["command"]
        assert first["command"][-1] == f"{place}.{edition}"
        claims = [
            volume["persistentVolumeClaim"]["claimName"]
            for each in (job, document)
            for volume in each["spec"]["template"]["spec"]["volumes"]
            if "persistentVolumeClaim" in volume
        ]
        assert len(claims) == 2
        assert len(set(claims)) == 1
    assert jobs == {}


def test_a_claim_is_made_unless_there_is_one_or_none_is_needed() -> None:
    made = {name: [claim["spec"] for claim in of_kind(name, "PersistentVolumeClaim")] for name in SETS}
    assert made["adapter"] == made["pull"] == []
    assert made["several"] == [
        {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "nfs",
            "resources": {"requests": {"storage": "50Gi"}},
        }
    ]
    assert "storageClassName" not in made["default"][0]


def test_a_model_is_pulled_into_a_folder_of_the_pods_own() -> None:
    for document in of_kind("pull", "Deployment", "triton"):
        spec = document["spec"]["template"]["spec"]
        (pull,) = spec["initContainers"]
        assert mounts(pull) == {"/models": True, "/tmp": True}
        assert mounts(container(document))["/models"] is False
        assert {"name": "models", "emptyDir": {}} in spec["volumes"]
    assert pull["envFrom"] == [{"secretRef": {"name": "bucket"}}]


def test_slices_nodes_and_runtime_are_asked_for() -> None:
    for document in of_kind("pull", "Deployment", "triton"):
        spec = document["spec"]["template"]["spec"]
        assert container(document)["resources"]["limits"]["nvidia.com/mig-2g.20gb"] == 2
        assert spec["runtimeClassName"] == "nvidia"
        assert spec["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
        assert spec["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
        assert document["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}


def test_a_models_own_settings_are_laid_over_those_of_all() -> None:
    replicas = [document["spec"]["replicas"] for document in of_kind("several", "Deployment", "triton")]
    assert replicas == [3, 2]
    for document in of_kind("several", "Deployment", "triton"):
        assert container(document)["resources"] == {
            "requests": {"cpu": "16", "memory": "12Gi"},
            "limits": {"memory": "24Gi", "nvidia.com/gpu": 1},
        }


@by_set
def test_replicas_are_left_to_whoever_scales(name: str) -> None:
    """A number in the Deployment would set them back at every upgrade."""
    scalers = of_kind(name, "HorizontalPodAutoscaler") + of_kind(name, "ScaledObject")
    scaled = {scaler["spec"]["scaleTargetRef"]["name"] for scaler in scalers}
    deployments = {document["metadata"]["name"]: document for document in of_kind(name, "Deployment")}
    assert scaled <= set(deployments)
    for deployment, document in deployments.items():
        assert ("replicas" in document["spec"]) == (deployment not in scaled)


@by_set
def test_triton_is_started_anew_where_one_of_its_processes_died(name: str) -> None:
    for document in of_kind(name, "Deployment", "triton"):
        probes = container(document)
        check = COMPOSE["triton"]["healthcheck"]["test"]
        assert ["CMD", *probes["livenessProbe"]["exec"]["command"]] == check
        for probe in ("startupProbe", "readinessProbe"):
            assert probes[probe]["httpGet"] == {"path": "/v2/health/ready", "port": "triton-http"}
        starting = probes["startupProbe"]["periodSeconds"] * probes["startupProbe"]["failureThreshold"]
        assert f"{starting // 60}m" == COMPOSE["triton"]["healthcheck"]["start_period"]
        # A second or two of not being ready, while label sets are taken up, must pass unnoticed.
        assert probes["readinessProbe"]["failureThreshold"] == 3
        assert probes["readinessProbe"]["periodSeconds"] == 5


@pytest.mark.parametrize("name", sorted(set(SETS) - {"zero"}))
def test_a_gateway_is_ready_while_its_vectors_are_right(name: str) -> None:
    (gateway,) = of_kind(name, "Deployment", "gateway")
    probes = container(gateway)
    assert "/health/ready" in " ".join(COMPOSE["gateway"]["healthcheck"]["test"])
    for probe in ("startupProbe", "readinessProbe"):
        assert probes[probe]["httpGet"] == {"path": "/health/ready", "port": "gateway-http"}
    assert probes["livenessProbe"]["httpGet"]["path"] == "/health/live"  # else Triton's trouble would end gateways


def test_a_gateway_before_a_model_without_pods_takes_requests_all_the_same() -> None:
    (gateway,) = of_kind("zero", "Deployment", "gateway")
    probes = container(gateway)
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert probes[probe]["httpGet"]["path"] == "/health/live"


@by_set
def test_a_pod_serves_on_until_nobody_asks_it_and_then_has_time_to_end(name: str) -> None:
    (age,) = [flag for flag in COMPOSE["triton"]["command"] if "connection-age" in flag]
    for component, least in (("triton", int(age.partition("=")[2]) / 1000), ("gateway", 5)):
        for document in of_kind(name, "Deployment", component):
            waits = container(document)["lifecycle"]["preStop"]["sleep"]["seconds"]
            assert waits > least
            assert document["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == waits + DRAIN_SECONDS
            assert COMPOSE[component]["stop_grace_period"] == f"{DRAIN_SECONDS}s"


@by_set
def test_the_gateway_understands_its_options_and_reaches_every_model(name: str) -> None:
    (gateway,) = of_kind(name, "Deployment", "gateway")
    command, *arguments = container(gateway)["args"]
    assert command == "gateway"
    options = gateway_parser().parse_args(arguments)
    assert (options.host, options.port) == ("0.0.0.0", 8080)
    services_of = {document["metadata"]["name"]: document for document in of_kind(name, "Service", "triton")}
    urls = [argument.removeprefix("--url=").partition("=") for argument in arguments if argument.startswith("--url=")]
    assert [model for model, _, _ in urls] == [
        document["metadata"]["labels"]["tritonclip/model"] for document in of_kind(name, "Deployment", "triton")
    ]
    for model, _, url in urls:
        host, _, port = url.removeprefix("grpc://").partition(":")
        assert services_of[host]["metadata"]["labels"]["tritonclip/model"] == model
        assert int(port) in [each["port"] for each in services_of[host]["spec"]["ports"]]
    if name == "several":
        assert (options.texts, options.index) == (4096, [("photos", "s3://bucket/photos")])
        assert container(gateway)["envFrom"] == [{"secretRef": {"name": "bucket"}}]


@pytest.mark.parametrize(("name", "secret"), [("default", f"{RELEASE}-tritonclip-keys"), ("several", "clip-keys")])
def test_keys_are_a_file_of_a_secret_that_may_come_later(name: str, secret: str) -> None:
    (gateway,) = of_kind(name, "Deployment", "gateway")
    (variable,) = container(gateway)["env"]
    assert variable["value"] == COMPOSE["gateway"]["environment"][variable["name"]]
    (keys,) = [volume for volume in gateway["spec"]["template"]["spec"]["volumes"] if volume["name"] == "keys"]
    assert keys["secret"]["secretName"] == secret
    assert keys["secret"]["optional"] is True
    assert mounts(container(gateway))[str(Path(variable["value"]).parent)] is False
    assert keys["secret"]["items"] == [{"key": Path(variable["value"]).name, "path": Path(variable["value"]).name}]


def test_the_admin_key_is_of_a_secret_and_else_there_is_none() -> None:
    for document in of_kind("pull", "Deployment", "triton"):
        (variable,) = container(document)["env"]
        assert variable["valueFrom"] == {"secretKeyRef": {"name": "triton-admin", "key": "admin-key"}}
        assert variable["name"] in COMPOSE["triton"]["environment"]
    assert "env" not in container(of_kind("default", "Deployment", "triton")[0])


def test_no_gateway_waits_longer_than_its_end_allows() -> None:
    assert Limits().seconds + 5 < DRAIN_SECONDS
