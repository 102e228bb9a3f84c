"""How the chart's pods are found and reached: by selectors, ports, Services, and policies that let in who is named."""

import pytest

from tests.compose_files import services
from tests.helm_chart import RELEASE, ROOT, SETS, Object, container, objects, of_kind, pods, refused

COMPOSE = services("docker-compose.yml")

by_set = pytest.mark.parametrize("name", SETS)


def labels(document: Object) -> dict[str, str]:
    found: dict[str, str] = document["spec"]["template"]["metadata"]["labels"]
    return found


def chosen(name: str, selector: dict[str, str]) -> list[Object]:
    """What makes the pods that a selector finds."""
    return [document for document, _ in pods(name) if selector.items() <= labels(document).items()]


@by_set
def test_every_selector_finds_the_pods_of_one_deployment(name: str) -> None:
    for document in objects(name):
        spec = document.get("spec", {})
        if document["kind"] == "Service":
            selectors = [spec["selector"]]
        elif document["kind"] == "NetworkPolicy":
            selectors = [spec["podSelector"]["matchLabels"]]
        elif document["kind"] in ("Deployment", "PodDisruptionBudget"):
            selectors = [spec["selector"]["matchLabels"]]
        else:
            continue
        if document["kind"] == "Deployment":
            spread = spec["template"]["spec"]["topologySpreadConstraints"]
            selectors += [constraint["labelSelector"]["matchLabels"] for constraint in spread]
            assert [constraint["topologyKey"] for constraint in spread] == [
                "kubernetes.io/hostname", "topology.kubernetes.io/zone",
            ]  # fmt: skip
        for selector in selectors:
            (found,) = chosen(name, selector)
            expected = document["metadata"]["labels"]
            assert {key: labels(found)[key] for key in selector} == {key: expected[key] for key in selector}


@by_set
def test_no_selector_finds_another_releases_pods(name: str) -> None:
    for document in objects(name):
        if document["kind"] in ("Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"):
            assert f"'app.kubernetes.io/instance': '{RELEASE}'" in str(document["spec"])


@by_set
def test_ports_have_the_names_that_probes_services_and_policies_go_by(name: str) -> None:
    for document in of_kind(name, "Service"):
        (found,) = chosen(name, document["spec"]["selector"])
        ports = {port["name"]: port["containerPort"] for port in container(found)["ports"]}
        assert all(ports[port["targetPort"]] == port["port"] for port in document["spec"]["ports"])
    for document in of_kind(name, "Deployment"):
        ports = {port["name"]: port["containerPort"] for port in container(document)["ports"]}
        published = COMPOSE[document["metadata"]["labels"]["app.kubernetes.io/component"]]["ports"]
        assert set(ports.values()) == {int(port.rpartition(":")[2]) for port in published}
    for policy in of_kind(name, "NetworkPolicy"):
        (found,) = chosen(name, policy["spec"]["podSelector"]["matchLabels"])
        names = {port["name"] for port in container(found)["ports"]}
        assert {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]} <= names


@by_set
def test_triton_has_an_address_for_each_pod(name: str) -> None:
    assert all(document["spec"]["clusterIP"] == "None" for document in of_kind(name, "Service", "triton"))
    assert all("clusterIP" not in document["spec"] for document in of_kind(name, "Service", "gateway"))


@by_set
def test_a_drained_node_takes_one_pod_of_a_kind_at_a_time(name: str) -> None:
    budgets = of_kind(name, "PodDisruptionBudget")
    assert len(budgets) == len(of_kind(name, "Deployment"))
    assert all(budget["spec"]["maxUnavailable"] == 1 for budget in budgets)


def senders(name: str, rule: Object) -> set[str]:
    """The components whose pods a rule of a network policy lets in, by their labels alone."""
    peers = [peer["podSelector"]["matchLabels"] for peer in rule["from"] if "namespaceSelector" not in peer]
    return {labels(found)["app.kubernetes.io/component"] for peer in peers for found in chosen(name, peer)}


def test_triton_hears_the_gateway_and_jobs_and_calls_nobody() -> None:
    (policy,) = of_kind("default", "NetworkPolicy", "triton")
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert policy["spec"]["egress"] == []
    (rule,) = policy["spec"]["ingress"]
    assert senders("default", rule) == {"gateway", "export"}
    assert rule["ports"] == [{"port": "triton-grpc"}]


def test_policies_let_in_whom_the_values_name() -> None:
    (policy,) = of_kind("keda", "NetworkPolicy", "triton")
    _, clients, metrics = policy["spec"]["ingress"]
    space = "kubernetes.io/metadata.name"
    assert clients["from"][0]["namespaceSelector"] == {"matchLabels": {space: "batch"}}
    assert {port["port"] for port in clients["ports"]} == {"triton-http", "triton-grpc"}
    assert metrics["from"] == [{"namespaceSelector": {"matchLabels": {space: "observability"}}}]
    (policy,) = of_kind("keda", "NetworkPolicy", "gateway")
    (rule,) = policy["spec"]["ingress"]
    named = [peer["namespaceSelector"]["matchLabels"][space] for peer in rule["from"]]
    assert named == ["ingress", "observability"]


def test_everybody_may_call_the_gateway_unless_callers_are_named() -> None:
    (policy,) = of_kind("default", "NetworkPolicy", "gateway")
    assert policy["spec"]["ingress"] == [{"ports": [{"port": "gateway-http"}]}]
    assert of_kind("several", "NetworkPolicy") == []


def test_only_what_pulls_a_model_may_reach_out() -> None:
    egress = [policy["spec"]["egress"] for policy in of_kind("pull", "NetworkPolicy", "triton")]
    assert egress == [[{}], [{}]]


def test_spans_go_to_the_collector_and_triton_may_call_it() -> None:
    name = "OTEL_EXPORTER_OTLP_ENDPOINT"
    for document in of_kind("keda", "Deployment"):
        variables = {variable["name"]: variable.get("value") for variable in container(document)["env"]}
        assert variables[name] == "http://collector.observability:4318"
    (policy,) = of_kind("keda", "NetworkPolicy", "triton")
    names = [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]
    assert policy["spec"]["egress"] == [{"ports": [{"port": 4318}]}, {"ports": names}]
    assert name not in str(objects("default"))
    assert name in (ROOT / "deploy/docker/start_triton").read_text()
    for wrong in ("collector:4318", "http://collector", "http://collector:4318/v1/traces"):
        assert "/tracing/endpoint" in refused("--set", f"tracing.endpoint={wrong}")


@by_set
def test_objects_go_where_helm_is_told(name: str) -> None:
    assert not any("namespace" in document["metadata"] for document in objects(name))
