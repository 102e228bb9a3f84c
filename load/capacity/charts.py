"""Charts of a capacity report, from its JSON document, as PNG files."""

from collections.abc import Mapping, Sequence
from math import nan
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure  # without pyplot: it draws into files, and asks for no screen

from load.capacity.deployment import STAGES

WIDTH = 8.0
DOTS_PER_INCH = 120
QUEUE_SHADE = 0.45  # a stage's waiting is drawn in a lighter shade of its computing
Document = Mapping[str, Any]


def draw(document: Document, folder: Path) -> list[str]:
    """All charts, into a folder; their file names."""
    charts = {"throughput.png": _throughput, "batches.png": _batches, "stages.png": _stages}
    if document["open_loop"]:
        charts["arrivals.png"] = _arrivals
    for name, chart in charts.items():
        figure = Figure(figsize=(WIDTH, 7.0), layout="constrained")
        chart(document, figure)
        figure.suptitle(f"{document['variant']}, {document['task']}, {document['items_per_request']} a request")
        figure.savefig(folder / name, dpi=DOTS_PER_INCH)
    return list(charts)


def _throughput(document: Document, figure: Figure) -> None:
    steps, knee = document["closed_loop"], document["knee"]["concurrency"]
    clients = [step["concurrency"] for step in steps]
    rate, latency = _rate_and_latency(document, figure, steps, clients)
    if document["versus_bare"] is not None:
        bare = median(document["versus_bare"]["images_per_s"]["bare"])
        rate.axhline(bare, color="0.4", linestyle="--", label="bare encoder")
    for axes in (rate, latency):
        axes.axvline(knee, color="0.6", linestyle=":", label=f"knee: {knee}")
        _by_clients(axes, clients)
    rate.label_outer()


def _arrivals(document: Document, figure: Figure) -> None:
    steps = document["open_loop"]
    offered = [step["rate_per_s"] * document["items_per_request"] for step in steps]
    rate, latency = _rate_and_latency(document, figure, steps, offered)
    rate.plot(offered, offered, color="0.6", linestyle=":", label="offered")
    rate.legend(fontsize="small")
    latency.set_xlabel(f"offered {document['unit']}/s, Poisson arrivals")


def _rate_and_latency(
    document: Document, figure: Figure, steps: Sequence[Any], moments: Sequence[float]
) -> tuple[Axes, Axes]:
    rate, latency = figure.subplots(2, sharex=True)
    rate.plot(moments, [step["client"]["goodput_per_s"] for step in steps], "o-", label="rightly answered")
    rate.set_ylabel(f"{document['unit']}/s")
    for name in ("p50", "p95", "p99"):
        times = [(step["client"]["answered_ms"] or {}).get(name, nan) for step in steps]
        latency.plot(moments, times, "o-", label=name)
    latency.set_ylabel("latency of answers, ms")
    for axes in (rate, latency):
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    return rate, latency


def _batches(document: Document, figure: Figure) -> None:
    steps, encoder, knee = document["closed_loop"], document["encoder"], document["knee"]["concurrency"]
    means, sizes = figure.subplots(2)
    clients = [step["concurrency"] for step in steps]
    for stage in STAGES:
        if any(stage in step["models"] for step in steps):
            batches = [step["models"].get(stage, {}).get("mean_batch", 0) for step in steps]
            means.plot(clients, batches, "o-", label=STAGES[stage])
    _by_clients(means, clients)
    means.set_ylabel("mean batch")
    at_knee = next(step for step in steps if step["concurrency"] == knee)
    found = at_knee["models"].get(encoder, {}).get("executions_by_batch", {})
    total = sum(found.values()) or 1
    sizes.bar([int(size) for size in found], [100 * count / total for count in found.values()])
    sizes.set_xlabel(f"batch size of {STAGES[encoder]} at the knee, {knee} clients")
    sizes.set_ylabel("% of executions")


def _stages(document: Document, figure: Figure) -> None:
    """Where the time goes: a bar for each step, a part of it for each stage's queue and computing."""
    steps = document["closed_loop"]
    axes = figure.subplots()
    rows, left = [str(step["concurrency"]) for step in steps], [0.0] * len(steps)

    def bars(label: str, widths: list[float], colour: str, alpha: float = 1.0) -> None:
        axes.barh(rows, widths, left=left, color=colour, alpha=alpha, label=label)
        left[:] = [start + width for start, width in zip(left, widths, strict=True)]

    for number, (stage, name) in enumerate(STAGES.items()):
        parts = [step["split_ms"]["stages"].get(stage, {}) for step in steps]
        if any(parts):
            queue = [part.get("queue", 0.0) for part in parts]
            bars(f"{name}: queue", queue, f"C{number}", QUEUE_SHADE)
            bars(name, [sum(p.values()) - waited for p, waited in zip(parts, queue, strict=True)], f"C{number}")
    for label, colour in (("handing_over", "0.75"), ("network_and_client", "0.4")):
        bars(label.replace("_", " "), [max(0.0, step["split_ms"][label]) for step in steps], colour)
    axes.invert_yaxis()
    axes.set_ylabel("clients")
    axes.set_xlabel("mean time of a request, ms")
    axes.legend(fontsize="small", ncols=2)


def _by_clients(axes: Axes, clients: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(clients), [str(count) for count in clients])
    axes.minorticks_off()
    axes.set_xlabel("clients (requests under way)")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
