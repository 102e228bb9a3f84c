"""The capacity report and the tuning for people, from their JSON documents."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from load.capacity.deployment import STAGES


def report_markdown(document: Mapping[str, Any], charts: Sequence[str]) -> str:
    """The capacity report."""
    return "\n\n".join(
        [
            f"# Capacity of {document['variant']}: {document['task']}",
            _conditions(document),
            *_summary(document),
            "## By concurrency",
            _steps_table(document["closed_loop"], "concurrency", "clients"),
            *(
                ["## By arrival rate (requests/s, Poisson)", _steps_table(document["open_loop"], "rate_per_s", "rate")]
                if document["open_loop"]
                else []
            ),
            "## Where the time of a request goes, ms",
            _split_table(document["closed_loop"]),
            "Queue + computing, means. *Handing over* is the server's time outside its stages, *network and client* "
            "what the client saw beyond the server's time.",
            "## Stages",
            _stages_table(document),
            *_versus(document),
            *_batching(document),
            "## Charts",
            *(f"![{name.removesuffix('.png')}]({name})" for name in charts),
        ]
    )


def tuning_markdown(document: Mapping[str, Any], charts: Sequence[str]) -> str:
    """The tuning."""
    noise = document["noise"]
    rows = [
        [
            candidate["name"],
            f"{candidate['ratio']['median']:.3f}",
            ", ".join(f"{ratio:.3f}" for ratio in candidate["ratio"]["rounds"]),
            f"{candidate['p95_ratio']:.3f}",
            f"{candidate['mean_batch']:.2f}",
            "better" if candidate["better"] else "no",
        ]
        for candidate in document["candidates"]
    ]
    return "\n\n".join(
        [
            f"# Settings of {document['variant']}: {document['task']}",
            _conditions(document),
            f"**{document['recommendation']['text']}**",
            f"Each candidate ran in turn with the present setting, {document['rounds']} rounds of "
            f"{document['seconds']:g} s, {document['concurrency']} clients. The present setting against a copy of "
            f"itself gave {noise['low']:.3f} to {noise['high']:.3f}: that is what noise does. A candidate is better "
            "where even its worst round lies above that.",
            _table(
                ["candidate", f"{document['unit']}/s ÷ present", "rounds", "p95 ÷ present", "mean batch", "better?"],
                rows,
            ),
            *(f"![{name.removesuffix('.png')}]({name})" for name in charts),
        ]
    )


def _conditions(document: Mapping[str, Any]) -> str:
    machine, picture = document["machine"], document["picture"]
    sent = f"{document['items_per_request']} {document['unit']} a request"
    if picture is not None:
        sent += f", {picture['width']}x{picture['height']} {picture['format']}"
    weights = ", random weights" if document["random_weights"] else ""
    return (
        f"{document['variant']}, {document['precision']}{weights}; {sent}; server: {document['deployment']}. "
        f"Machine: {machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, GPU: {machine['gpu']}; "
        f"torch {machine['torch']}, Python {machine['python']}. Client and server share it."
    )


def _summary(document: Mapping[str, Any]) -> Iterable[str]:
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
        times = client["answered_ms"] or {}
        rows.append(
            [
                f"{step[key]:g}",
                f"{client['goodput_per_s']:.1f}",
                *(f"{times[name]:.1f}" if times else "-" for name in ("p50", "p95", "p99", "max")),
                str(client["counts"]["refused"]),
                f"{client['refused_ms']['p95']:.1f}" if client["refused_ms"] else "-",
            ]
        )
    return _table([label, "goodput/s", "p50 ms", "p95 ms", "p99 ms", "max ms", "refused", "refused p95 ms"], rows)


def _split_table(steps: Sequence[Any]) -> str:
    stages = [stage for stage in STAGES if any(stage in step["split_ms"]["stages"] for step in steps)]
    rows = []
    for step in steps:
        split = step["split_ms"]
        parts = [split["stages"].get(stage, {}) for stage in stages]
        rows.append(
            [
                str(step["concurrency"]),
                *(f"{part.get('queue', 0):.1f} + {sum(part.values()) - part.get('queue', 0):.1f}" for part in parts),
                *(f"{split[name]:.1f}" for name in ("handing_over", "network_and_client", "client")),
            ]
        )
    names = [STAGES[stage] for stage in stages]
    return _table(["clients", *names, "handing over", "network and client", "all"], rows)


def _stages_table(document: Mapping[str, Any]) -> str:
    rows = []
    for step in document["closed_loop"]:
        for stage in STAGES:
            if (model := step["models"].get(stage)) is None:
                continue
            used = model["utilisation"]
            sizes = sorted(model["executions_by_batch"].items(), key=lambda item: -item[1])[:4]
            rows.append(
                [
                    str(step["concurrency"]),
                    STAGES[stage],
                    "-" if used is None else f"{used:.0%}",
                    f"{model['mean_batch']:.2f}",
                    ", ".join(f"{size} ({count / model['executions']:.0%})" for size, count in sizes),
                    f"{model['queue_ms']:.1f}",
                ]
            )
    return _table(["clients", "stage", "utilisation", "mean batch", "most frequent batches", "queue ms"], rows)


def _versus(document: Mapping[str, Any]) -> Iterable[str]:
    versus = document["versus_bare"]
    if versus is None:
        return
    yield f"## Served ÷ bare encoder at the knee, {versus['rounds']} rounds in turn"
    rows = [
        [
            name,
            ", ".join(f"{rate:.1f}" for rate in rates),
            f"**{versus['served_over_bare'][name]['median']:.3f}**" if name != "bare" else "",
            ", ".join(f"{r:.3f}" for r in versus["served_over_bare"][name]["rounds"]) if name != "bare" else "",
        ]
        for name, rates in versus["images_per_s"].items()
    ]
    yield _table(["", "images/s by round", "served ÷ bare", "rounds"], rows)
    by_batch = ", ".join(f"{rate:.1f} at {size}" for size, rate in versus["bare_images_per_s_by_batch"].items())
    yield f"Bare encoder by batch size, images/s: {by_batch}; the best one was used."


def _batching(document: Mapping[str, Any]) -> Iterable[str]:
    batching = document["batching"]
    if batching is None:
        return
    ratio = batching["on_over_off"]
    yield "## Dynamic batching on and off, the same load in turn"
    rows = [
        [
            name,
            ", ".join(f"{rate:.1f}" for rate in batching[f"{document['unit']}_per_s"][name]),
            f"{batching['mean_batch'][name]:.2f}",
            f"{batching['p95_ms'][name]:.1f}",
        ]
        for name in ("on", "off")
    ]
    yield _table(["batching", f"{document['unit']}/s by round", "mean batch", "p95 ms"], rows)
    yield f"On ÷ off: **{ratio['median']:.3f}** (rounds: {', '.join(f'{r:.3f}' for r in ratio['rounds'])})."


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
