"""The capacity report for people, from its JSON document."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from load.capacity.deployment import STAGES

Document = Mapping[str, Any]


def to_markdown(document: Document) -> str:
    """The whole report."""
    opened = document["open_loop"]
    return "\n\n".join(
        [
            f"# Capacity of {document['variant']}: {document['task']}",
            _conditions(document),
            *_summary(document),
            "## By concurrency",
            _steps_table(document["closed_loop"], "concurrency", "clients"),
            *(
                ["## By arrival rate (requests/s, Poisson)", _steps_table(opened, "rate_per_s", "rate")]
                if opened
                else []
            ),
            "## Where the time of a request goes, ms",
            _split_table(document["closed_loop"]),
            "Queue + computing, means. *Handing over* is the server's time outside its stages, *network and client* "
            "what the client saw beyond the server's time.",
            "## Stages",
            _stages_table(document),
            *_versus(document["versus_bare"]),
            *_batching(document["batching"], document["unit"]),
            "## Charts",
            *(f"![{name.removesuffix('.png')}]({name})" for name in document["charts"]),
        ]
    )


def _conditions(document: Document) -> str:
    machine, image = document["machine"], document["image"]
    sent = f"{document['items_per_request']} {document['unit']} a request"
    if image is not None:
        sent += f", {image['width']}x{image['height']} {image['format']}"
    weights = ", random weights" if document["random_weights"] else ""
    return (
        f"{document['variant']}, {document['precision']}{weights}; {sent}; server: {document['deployment']}. "
        f"Machine: {machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, GPU: {machine['gpu']}; "
        f"torch {machine['torch']}, Python {machine['python']}. Client and server share it."
    )


def _summary(document: Document) -> Iterable[str]:
    knee, limit = document["knee"], document["limiting_stage"]
    latency = knee["latency_ms"]
    yield (
        f"**Knee: {knee['concurrency']} clients**, {knee['goodput_per_s']:.1f} {document['unit']}/s, "
        f"p50 {latency['p50']:.0f} ms, p95 {latency['p95']:.0f} ms, p99 {latency['p99']:.0f} ms ({knee['rule']})."
        + (" The sweep ended there: try more clients." if knee["at_the_edge"] else "")
    )
    if limit is not None:
        yield f"**Limit: {STAGES[limit['stage']]}** (`{limit['stage']}`): {limit['reason']}."
    bad = document["outcomes"]["wrong"] + document["outcomes"]["hung"]
    counted = all(step["counted_all"] for step in (*document["closed_loop"], *document["open_loop"]))
    yield (
        f"Outcomes of all requests: {', '.join(f'{count} {name}' for name, count in document['outcomes'].items())}"
        f"{'. **Some were wrong or hung.**' if bad else '.'} Triton's counters "
        + ("agree with the client's." if counted else "do not agree with the client's: somebody else was asking too.")
    )


def _steps_table(steps: Sequence[Any], key: str, label: str) -> str:
    rows = []
    for step in steps:
        client = step["client"]
        times, refused = client["answered_ms"] or {}, client["refused_ms"] or {}
        cells = [_ms(times.get(name)) for name in ("p50", "p95", "p99", "max")]
        counts = [str(client["counts"]["refused"]), _ms(refused.get("p95"))]
        rows.append([f"{step[key]:g}", f"{client['goodput_per_s']:.1f}", *cells, *counts])
    return _table([label, "goodput/s", "p50 ms", "p95 ms", "p99 ms", "max ms", "refused", "refused p95 ms"], rows)


def _split_table(steps: Sequence[Any]) -> str:
    stages = [stage for stage in STAGES if any(stage in step["split_ms"]["stages"] for step in steps)]
    rows = []
    for step in steps:
        split = step["split_ms"]
        parts = [split["stages"].get(stage, {}) for stage in stages]
        cells = [f"{part.get('queue', 0):.1f} + {sum(part.values()) - part.get('queue', 0):.1f}" for part in parts]
        others = [f"{split[name]:.1f}" for name in ("handing_over", "network_and_client", "client")]
        rows.append([str(step["concurrency"]), *cells, *others])
    return _table(["clients", *(STAGES[stage] for stage in stages), "handing over", "network and client", "all"], rows)


def _stages_table(document: Document) -> str:
    rows = []
    for step in document["closed_loop"]:
        for stage in STAGES:
            if (model := step["models"].get(stage)) is None:
                continue
            used = "-" if model["utilisation"] is None else f"{model['utilisation']:.0%}"
            sizes = sorted(model["executions_by_batch"].items(), key=lambda item: -item[1])[:4]
            batches = ", ".join(f"{size} ({count / model['executions']:.0%})" for size, count in sizes)
            mean, waited = f"{model['mean_batch']:.2f}", f"{model['queue_ms']:.1f}"
            rows.append([str(step["concurrency"]), STAGES[stage], used, mean, batches, waited])
    return _table(["clients", "stage", "utilisation", "mean batch", "most frequent batches", "queue ms"], rows)


def _versus(versus: Document | None) -> Iterable[str]:
    if versus is None:
        return
    yield f"## Served ÷ bare encoder at the knee, {versus['rounds']} rounds in turn"
    rows = [["bare", _each(versus["images_per_s"]["bare"], 1), "", ""]]
    for name, found in versus["served_over_bare"].items():
        cells = [_each(versus["images_per_s"][name], 1), f"**{found['median']:.3f}**", _each(found["rounds"], 3)]
        rows.append([name, *cells])
    yield _table(["", "images/s by round", "served ÷ bare", "rounds"], rows)
    by_batch = ", ".join(f"{rate:.1f} at {size}" for size, rate in versus["bare_images_per_s_by_batch"].items())
    yield f"Bare encoder by batch size, images/s: {by_batch}; the best one was used."


def _batching(batching: Document | None, unit: str) -> Iterable[str]:
    if batching is None:
        return
    yield "## Dynamic batching on and off, the same load in turn"
    rows = [
        [name, _each(rates, 1), f"{batching['mean_batch'][name]:.2f}", _ms(batching["p95_ms"][name])]
        for name, rates in batching[f"{unit}_per_s"].items()
    ]
    yield _table(["batching", f"{unit}/s by round", "mean batch", "p95 ms"], rows)
    found = batching["on_over_off"]
    yield f"On ÷ off: **{found['median']:.3f}** (rounds: {_each(found['rounds'], 3)})."


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _each(values: Sequence[float], digits: int) -> str:
    return ", ".join(f"{value:.{digits}f}" for value in values)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *rows))
