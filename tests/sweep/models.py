"""Every architecture of open_clip through the exporter, at random weights, smallest first: what is served, how equal.

    python -m tests.sweep.models [NAME …] [--at-most MILLIONS] [--markdown FILE]

    config ──meta device──> size ──a process of its own──> export into a temporary folder ──> cosines, or why not

Results are kept, a line of JSON each, in build/models.jsonl; a second run goes on from there. Tokenizers of the hub are
small ones of the same kind, trained on the spot: random weights have nothing to say of the words. Text towers of the
hub are built from configurations of the same sizes (tests/text_towers.py). Batches have up to
three items, not sixteen as in an export: they show what a trace bakes in as well, and an image may take seconds here.
"""

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch

from tests import small_tokenizers, text_towers
from tests.parity.test_tokens import captions, take
from tritonclip_server.export import verification
from tritonclip_server.export.errors import ExportError, UnsupportedModel
from tritonclip_server.export.pipeline import Request, export
from tritonclip_server.export.variants import Variant

RESULTS = Path("build/models.jsonl")
AT_MOST = 2000  # million parameters: in fp32 with its traced copy, what 24 GB of memory hold
SECONDS = 1800
BATCH_SIZES = (1, 2, 3)  # the third text is the first that is as long as a context
KINDS = {
    "timm/ViT-B-16-SigLIP": "t5",
    "timm/ViT-B-16-SigLIP-i18n-256": "mt5",
    "google/mt5-base": "mt5",
    "facebook/xlm-v-base": "xlm-roberta",
    "bert-base-uncased": "bert",
    "roberta-base": "roberta",
    "xlm-roberta-base": "xlm-roberta",
    "xlm-roberta-large": "xlm-roberta",
    "facebook/nllb-200-distilled-600M": "nllb",
    "facebook/nllb-200-distilled-1.3B": "nllb",
}
"""The kind of each tokenizer that open_clip's configs name; the others, SigLIP 2's, are Gemma's."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sweep; returns the exit code, 1 where a model failed."""
    command = argparse.ArgumentParser(prog="python -m tests.sweep.models", description=__doc__)
    command.add_argument("names", nargs="*", metavar="NAME", help="architectures (default: all)")
    command.add_argument("--at-most", type=float, default=AT_MOST, metavar="MILLIONS", help="(default: %(default)s)")
    command.add_argument("--markdown", type=Path, metavar="FILE", help="write what is known as a table, and end")
    command.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = command.parse_args(arguments)
    if options.one:
        print(json.dumps(_one(options.names[0])))
        return 0
    if options.markdown:
        options.markdown.write_text(to_markdown(_known().values()), encoding="utf-8")
        return 0
    known = _known()
    names = options.names or sorted(open_clip.list_models(), key=_millions)
    for name in names:
        if name not in known:
            _keep(known.setdefault(name, _measure(name, options.at_most)))
    return int(any(known[name].get("failed") for name in names))


def _measure(name: str, at_most: float) -> dict[str, Any]:
    """The row of one architecture, by a process that may run out of time or memory."""
    millions = _millions(name)
    row = {"name": name, "tokenizer": _tokenizer(name), "millions": round(millions)}
    if millions > at_most:
        return row | {"too_large": True}
    started = time.monotonic()
    command = [sys.executable, "-m", "tests.sweep.models", "--one", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return row | {"failed": f"not done within {SECONDS} s"}
    if done.returncode != 0:
        return row | {"failed": (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row | found | {"seconds": round(time.monotonic() - started)}


def _one(name: str) -> dict[str, Any]:
    """Export an architecture; the smallest cosines to eager open_clip, or why it is refused."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            manifest = export_random(name, Path(folder) / "served")
        except ExportError as error:
            return {"refused" if isinstance(error, UnsupportedModel) else "failed": str(error)}
    return {"precision": manifest["precision"], **manifest["verified"]}


def export_random(name: str, into: Path) -> Mapping[str, Any]:
    """Publish an architecture at random weights, for a CPU; its manifest. A small tokenizer stands in for the hub's."""
    verification.BATCH_SIZES = BATCH_SIZES
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = None
        if (hub := _tokenizer(name)) != "open_clip":
            tokenizer = Path(folder)
            small_tokenizers.train(kind_of(hub), take(captions, 500, 3), tokenizer)
            if tower := text_tower(name):
                text_towers.write_configuration(tower, tokenizer)
        request = Request(Variant(name, "random"), host="cpu", random=True, tokenizer=tokenizer)
        return export(request, into, report=lambda step: None)


def kind_of(tokenizer: str) -> str:
    """The small tokenizer that stands in for one of the hub."""
    return KINDS.get(tokenizer, "gemma")


def _tokenizer(name: str) -> str:
    return str(open_clip.get_model_config(name)["text_cfg"].get("hf_tokenizer_name") or "open_clip")


def text_tower(name: str) -> str | None:
    """The text tower of the hub that an architecture has, if any."""
    found: str | None = open_clip.get_model_config(name)["text_cfg"].get("hf_model_name")
    return found


def _millions(name: str) -> float:
    """Its parameters, which no memory is taken for."""
    logging.disable(logging.WARNING)  # of every model that its weights are random
    with tempfile.TemporaryDirectory() as folder, torch.device("meta"):
        options = {}
        if tower := text_tower(name):
            text_towers.CONFIGURATIONS[tower].save_pretrained(folder)
            options["text_cfg"] = open_clip.get_model_config(name)["text_cfg"] | {"hf_model_name": folder}
            options["text_cfg"]["hf_model_pretrained"] = False
        model = open_clip.create_model(name, pretrained_text=False, device="meta", **options)
    return float(sum(parameter.numel() for parameter in model.parameters())) / 1e6


def _known() -> dict[str, dict[str, Any]]:
    lines = RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.is_file() else []
    return {row["name"]: row for row in map(json.loads, lines)}


def _keep(row: dict[str, Any]) -> None:
    print(json.dumps(row), flush=True)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def to_markdown(rows: Iterable[dict[str, Any]]) -> str:
    """The table of docs/models.md."""
    lines = [
        "| architecture | parameters, millions | tokenizer | images | texts | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: (row["millions"], row["name"])):
        if "image_encoder" in row:
            found = [f"{row[name]:.6f}" for name in ("image_encoder", "text_encoder")]
        else:
            why = "too large for 24 GB" if row.get("too_large") else row.get("refused") or row.get("failed")
            found = [f"{why}", ""]
        cells = [row["name"], row["millions"] or "", row["tokenizer"], *found, row.get("seconds", "")]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
