"""Charts of a report or a tuning, from its JSON document, as PNG files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure  # without pyplot: it draws into files, and asks for no screen

from load.capacity.deployment import STAGES

SIZE = (8.0, 5.0)
DOTS_PER_INCH = 120
QUEUE_SHADE = 0.45  # a stage's waiting is drawn in a lighter shade of its computing


def draw_report(document: Mapping[str, Any], folder: Path) -> list[str]:
    """The charts of a capacity report, into a folder; their file names."""
    steps, knee = document["closed_loop"], document["knee"]["concurrency"]
    names = ["throughput.png", "batches.png", "stages.png"]
    _throughput(document, steps, knee, folder / names[0])
    _batches(document, steps, knee, folder / names[1])
    _stages(document, steps, folder / names[2])
    if document["open_loop"]:
        names.append("arrivals.png")
        _arrivals(document, folder / names[-1])
    return names


def draw_tuning(document: Mapping[str, Any], folder: Path) -> list[str]:
    """The chart of a tuning: each candidate's ratio to the present setting, every round, beside what noise does."""
    candidates = document["candidates"]
    figure = Figure(figsize=(SIZE[0], 2.2 + 0.4 * len(candidates)), layout="constrained")
    axes = figure.subplots()
    low, high = document["noise"]["low"], document["noise"]["high"]
    axes.axvspan(low, high, color="0.9", label="the present setting against itself")
    axes.axvline(1.0, color="0.5", linewidth=1)
    for row, candidate in enumerate(candidates):
        colour = "tab:green" if candidate["better"] else "tab:blue"
        axes.plot(candidate["ratio"]["rounds"], [row] * len(candidate["ratio"]["rounds"]), "o", color=colour, alpha=0.5)
        axes.plot(candidate["ratio"]["median"], row, "|", color=colour, markersize=18, markeredgewidth=3)
    axes.set_yticks(range(len(candidates)), [candidate["name"] for candidate in candidates])
    axes.set_ylim(len(candidates) - 0.4, -0.6)  # the first one on top
    axes.set_xlabel(f"{document['unit']}/s ÷ present setting (dots: rounds, bars: medians)")
    axes.set_title(_title(document, f"settings, {document['concurrency']} clients"))
    figure.legend(loc="outside lower center", fontsize="small")
    return [_save(figure, folder / "tune.png")]


def _throughput(document: Mapping[str, Any], steps: Sequence[Any], knee: int, path: Path) -> None:
    figure = Figure(figsize=(SIZE[0], 7.0), layout="constrained")
    (rate, latency) = figure.subplots(2, sharex=True)
    clients = [step["concurrency"] for step in steps]
    rate.plot(clients, [step["client"]["goodput_per_s"] for step in steps], "o-", label="rightly answered")
    bare = document["versus_bare"]
    if bare is not None:
        rates = sorted(bare["images_per_s"]["bare"])
        rate.axhline(rates[len(rates) // 2], color="0.4", linestyle="--", label="bare encoder")
    rate.set_ylabel(f"{document['unit']}/s")
    rate.set_ylim(bottom=0)
    for name, colour in (("p50", "tab:green"), ("p95", "tab:orange"), ("p99", "tab:red")):
        found = [(step["concurrency"], step["client"]["answered_ms"]) for step in steps]
        points = [(x, times[name]) for x, times in found if times is not None]
        latency.plot([x for x, _ in points], [y for _, y in points], "o-", color=colour, label=name)
    latency.set_ylabel("latency, ms")
    latency.set_ylim(bottom=0)
    latency.set_xlabel("clients (requests under way)")
    for axes in (rate, latency):
        axes.axvline(knee, color="0.6", linestyle=":", label=f"knee: {knee}")
        _by_clients(axes, clients)
        axes.legend(fontsize="small")
    rate.set_title(_title(document, "throughput and latency"))
    _save(figure, path)


def _batches(document: Mapping[str, Any], steps: Sequence[Any], knee: int, path: Path) -> None:
    encoder = document["encoder"]
    figure = Figure(figsize=(SIZE[0], 7.0), layout="constrained")
    (means, sizes) = figure.subplots(2)
    clients = [step["concurrency"] for step in steps]
    for stage in STAGES:
        if any(stage in step["models"] for step in steps):
            batches = [step["models"].get(stage, {}).get("mean_batch", 0) for step in steps]
            means.plot(clients, batches, "o-", label=STAGES[stage])
    _by_clients(means, clients)
    means.set_xlabel("clients (requests under way)")
    means.set_ylabel("mean batch")
    means.set_ylim(bottom=0)
    means.legend(fontsize="small")
    means.set_title(_title(document, "batches"))
    at_knee = next(step for step in steps if step["concurrency"] == knee)
    found = at_knee["models"].get(encoder, {}).get("executions_by_batch", {})
    total = sum(found.values()) or 1
    sizes.bar([int(size) for size in found], [100 * count / total for count in found.values()])
    sizes.set_xlabel(f"batch size of {STAGES[encoder]} at the knee, {knee} clients")
    sizes.set_ylabel("% of executions")
    _save(figure, path)


def _stages(document: Mapping[str, Any], steps: Sequence[Any], path: Path) -> None:
    figure = Figure(figsize=(SIZE[0], 2.2 + 0.5 * len(steps)), layout="constrained")
    axes = figure.subplots()
    rows = [str(step["concurrency"]) for step in steps]
    left = [0.0] * len(steps)

    def bars(label: str, widths: list[float], colour: Any, alpha: float = 1.0) -> None:
        axes.barh(rows, widths, left=left, color=colour, alpha=alpha, label=label)
        left[:] = [start + width for start, width in zip(left, widths, strict=True)]

    for number, (stage, name) in enumerate(STAGES.items()):
        if not any(stage in step["split_ms"]["stages"] for step in steps):
            continue
        parts = [step["split_ms"]["stages"].get(stage, {}) for step in steps]
        queue = [part.get("queue", 0.0) for part in parts]
        compute = [sum(part.values()) - part.get("queue", 0.0) for part in parts]
        bars(f"{name}: queue", queue, f"C{number}", QUEUE_SHADE)
        bars(name, compute, f"C{number}")
    bars("handing over", [max(0.0, step["split_ms"]["handing_over"]) for step in steps], "0.75")
    bars("network and client", [max(0.0, step["split_ms"]["network_and_client"]) for step in steps], "0.4")
    axes.invert_yaxis()
    axes.set_ylabel("clients")
    axes.set_xlabel("mean time of a request, ms")
    axes.set_title(_title(document, "where the time goes"))
    axes.legend(fontsize="small", ncols=2)
    _save(figure, path)


def _arrivals(document: Mapping[str, Any], path: Path) -> None:
    steps = document["open_loop"]
    figure = Figure(figsize=(SIZE[0], 7.0), layout="constrained")
    (rate, latency) = figure.subplots(2, sharex=True)
    offered = [step["rate_per_s"] * document["items_per_request"] for step in steps]
    rate.plot(offered, [step["client"]["goodput_per_s"] for step in steps], "o-", label="rightly answered")
    rate.plot(offered, offered, color="0.6", linestyle=":", label="offered")
    rate.set_ylabel(f"{document['unit']}/s")
    rate.set_ylim(bottom=0)
    for name in ("p50", "p95", "p99"):
        answered = [step["client"]["answered_ms"] for step in steps]
        points = [(x, times[name]) for x, times in zip(offered, answered, strict=True) if times is not None]
        latency.plot([x for x, _ in points], [y for _, y in points], "o-", label=name)
    latency.set_ylabel("latency of answers, ms")
    latency.set_ylim(bottom=0)
    latency.set_xlabel(f"offered {document['unit']}/s, Poisson arrivals")
    for axes in (rate, latency):
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    rate.set_title(_title(document, "arrivals at random"))
    _save(figure, path)


def _by_clients(axes: Axes, clients: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(clients), [str(count) for count in clients])
    axes.minorticks_off()
    axes.grid(alpha=0.3)


def _title(document: Mapping[str, Any], what: str) -> str:
    return f"{document['variant']}, {document['task']}, {document['items_per_request']} a request: {what}"


def _save(figure: Figure, path: Path) -> str:
    figure.savefig(path, dpi=DOTS_PER_INCH)
    return path.name
