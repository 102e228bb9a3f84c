"""The `tritonclip-server export` command."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tritonclip.protocol.names import NAME_RULE, is_name
from tritonclip_server.export.errors import BadMixture
from tritonclip_server.export.exit_codes import exit_code_of
from tritonclip_server.export.pipeline import MODELS_FOLDER, Request, export, is_current
from tritonclip_server.export.publishing import check_destination, clear_leftovers
from tritonclip_server.export.recheck import recheck
from tritonclip_server.export.tracing import DTYPES, resolve_host
from tritonclip_server.export.variants import Variant, default_variant, format_table, resolve, resolve_mixture

EXAMPLES = """examples:
  tritonclip-server export --list
  tritonclip-server export convnext_base_w-laion2b_s13b_b82k_augreg
  tritonclip-server export convnext_base_w_320-laion_aesthetic_s13b_b82k_augreg --image-size 384
  tritonclip-server export ViT-B-32/openai --checkpoint ViT-B-32.pt
  tritonclip-server export ViT-B-16-SigLIP2-256/webli
  tritonclip-server export mymodel/      what `finetune` wrote
  tritonclip-server export --interpolate ViT-B-32/openai mymodel/fine-tuned 0.4 --into build/models/mixed
  tritonclip-server export ViT-B-32/openai --model vit --into build/models/pair/vit
  tritonclip-server labels --help        zero-shot classifiers to store beside a published model
  tritonclip-server head --help          trained ones
"""


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    command = argparse.ArgumentParser(
        prog="tritonclip-server export",
        description="Publish a served Triton repository from the weights of an OpenCLIP model.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "variant",
        nargs="?",
        metavar="VARIANT",
        help="a name that --list prints, any ARCH/TAG of open_clip, or a folder in its local-dir layout (default: "
        f"{default_variant().name})",
    )
    command.add_argument("--list", action="store_true", help="print the variants and exit")
    command.add_argument(
        "--into", type=Path, metavar="DIR", help=f"where to publish (default: {MODELS_FOLDER}/VARIANT)"
    )
    command.add_argument(
        "--model",
        type=_model_name,
        metavar="NAME",
        help="publish it by this name, for a Triton that carries several: what it serves is NAME.embed_image and so on",
    )
    command.add_argument(
        "--host",
        choices=("auto", "gpu", "cpu"),
        default="auto",
        help="gpu: the production container; cpu: the embedded server (default: gpu where CUDA answers)",
    )
    weights = command.add_mutually_exclusive_group()
    weights.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help="weights from a .safetensors, .pt or .bin file"
    )
    weights.add_argument(
        "--interpolate",
        nargs=3,
        metavar=("A", "B", "ALPHA"),
        help="in the place of VARIANT: the weights at ALPHA, from 0 to 1, of the way from variant A to variant B, or "
        "to a file with weights for A's architecture",
    )
    weights.add_argument("--random", action="store_true", help="seeded RANDOM WEIGHTS, to try the server without any")
    command.add_argument(
        "--tokenizer",
        type=Path,
        metavar="DIR",
        help="a folder with tokenizer.json and tokenizer_config.json, for models whose tokenizer is the hub's (SigLIP, "
        "CLIPA, MetaCLIP 2 worldwide), and with config.json, for those whose text tower is (XLM-RoBERTa, mT5, NLLB)",
    )
    command.add_argument(
        "--image-size", type=_pixels, metavar="N", help="pixels a side, where it is not the variant's own"
    )
    command.add_argument(
        "--precision",
        choices=("auto", *DTYPES),
        default="auto",
        help="auto: fp16 for a gpu host; bf16 for a CPU with AVX512-BF16 or AMX, else fp32",
    )
    command.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to trace and verify (default: auto)"
    )
    command.add_argument(
        "--drop-label-sets",
        action="store_true",
        help="publish even where the old repository's label sets do not fit the new encoder, without any of them",
    )
    command.add_argument(
        "--check",
        type=Path,
        metavar="DIR",
        help="publish nothing: compare this repository with the variant's checkpoint, with the same options",
    )
    command.add_argument("--if-changed", action="store_true", help="do nothing where it is published already")
    return command


def _model_name(text: str) -> str:
    if not is_name(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no name for a model: {NAME_RULE}")
    return text


def _pixels(text: str) -> int:
    size = int(text)
    if size < 1:
        raise argparse.ArgumentTypeError("a side has at least 1 pixel")
    return size


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 1 with one line on stderr, or 130 when interrupted."""
    options = parser().parse_args(arguments)
    return exit_code_of(lambda: print(format_table()) if options.list else _export(options))


def _variant(options: argparse.Namespace) -> Variant:
    if options.interpolate is None:
        return resolve(options.variant or default_variant().name)
    if options.variant is not None:
        raise BadMixture(f"--interpolate names both models: leave {options.variant} out")
    return resolve_mixture(*options.interpolate)


def _export(options: argparse.Namespace) -> None:
    request = Request(
        variant=_variant(options),
        host=resolve_host(options.host),
        precision=options.precision,
        device=options.device,
        checkpoint=options.checkpoint,
        random=options.random,
        image_size=options.image_size,
        tokenizer=options.tokenizer,
        model=options.model,
    )
    started = time.monotonic()

    def report(step: str) -> None:
        print(f"[{time.monotonic() - started:6.1f} s] {step}", file=sys.stderr, flush=True)

    if options.check:
        lowest = recheck(request, options.check, report)
        print(f"{options.check} answers as its checkpoint does")
        print("\n".join(f"{encoder}: smallest cosine {cosine:.6f}" for encoder, cosine in lowest.items()))
        return
    destination = options.into or MODELS_FOLDER / request.folder_name
    check_destination(destination)
    clear_leftovers(destination)
    if options.if_changed and is_current(request, destination):
        print(f"{destination} is up to date")
        return
    manifest = export(request, destination, report, drop_label_sets=options.drop_label_sets)
    if manifest["random_weights"]:
        print("RANDOM WEIGHTS: this repository shows how the server works; its answers mean nothing", file=sys.stderr)
    name = f" as {options.model}" if options.model else ""
    print(f"published {manifest['variant']}{name} ({manifest['precision']}, {manifest['host']} host) in {destination}")
    print(f"fingerprint {manifest['fingerprint']}")
