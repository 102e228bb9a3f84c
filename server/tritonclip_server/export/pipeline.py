"""One export from end to end: load, fold, trace, verify, publish."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from tritonclip_server.export.checkpoint import Checkpoint, load_checkpoint
from tritonclip_server.export.classifiers import carry_over
from tritonclip_server.export.configs import OVERLAY, SMALL_ENCODER_PARAMETERS, Deployment, configure
from tritonclip_server.export.encoders import ImageEncoder, Similarity, TextEncoder
from tritonclip_server.export.manifest import build_manifest
from tritonclip_server.export.probe import build_probe
from tritonclip_server.export.publishing import staged
from tritonclip_server.export.slices import InSlices, images_in_a_slice
from tritonclip_server.export.tokenizer import tokenizer_settings, write_tokenizer
from tritonclip_server.export.tracing import DTYPES, resolve_device, resolve_precision, trace
from tritonclip_server.export.variants import LocalVariant, MixedVariant, Variant
from tritonclip_server.export.verification import compute_reference, verify
from tritonclip_server.export.warmup import write_warmup_texts
from tritonclip_server.repository.configs import name_models, read_config
from tritonclip_server.repository.manifest import NAME, digest_artifacts, is_intact, read_manifest, write_manifest
from tritonclip_server.resources import MODEL_REPOSITORY, PACKAGE

MODELS_FOLDER = Path("build/models")

Report = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """What to export: the resolved options of the command."""

    variant: Variant
    host: str  # "gpu" or "cpu"
    precision: str = "auto"
    device: str = "auto"
    checkpoint: Path | None = None
    random: bool = False
    image_size: int | None = None
    tokenizer: Path | None = None
    model: str | None = None  # the name to publish it by

    @property
    def folder_name(self) -> str:
        """Where it is published by default, under build/models: nothing random or resized shadows the real thing."""
        size = f"-{self.image_size}px" if self.image_size else ""
        name = f"-as-{self.model}" if self.model else ""
        return self.variant.name + size + ("-random" if self.random else "") + name

    def load(self) -> Checkpoint:
        """The checkpoint that it names; raises what `load_checkpoint` does."""
        return load_checkpoint(
            self.variant,
            checkpoint=self.checkpoint,
            random=self.random,
            image_size=self.image_size,
            tokenizer=self.tokenizer,
        )

    def recipe(self) -> str:
        """A digest of the options and of the sources that make an artifact of them, for `--if-changed`."""
        digest = hashlib.sha256(repr(sorted(asdict(self).items(), key=str)).encode())
        files = [self.checkpoint] if self.checkpoint is not None else []
        files += sorted(self.tokenizer.iterdir()) if self.tokenizer is not None and self.tokenizer.is_dir() else []
        for path in [*files, *self.variant.files()]:
            if path.is_file():
                digest.update(f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}".encode())
        sources = [*PACKAGE.glob("export/*.py"), *PACKAGE.glob("repository/*.py"), *OVERLAY.glob("*/**/*")]
        sources += [*MODEL_REPOSITORY.glob("*/config.pbtxt"), *MODEL_REPOSITORY.glob("*/1/*.py")]
        for path in sorted(path for path in sources if path.suffix in (".py", ".pbtxt")):
            digest.update(path.name.encode() + path.read_bytes())
        return digest.hexdigest()


def is_current(request: Request, destination: Path) -> bool:
    """Whether the destination already holds what this request would publish, undamaged."""
    manifest = read_manifest(destination)
    return manifest is not None and manifest.get("recipe") == request.recipe() and is_intact(destination)


def export(request: Request, destination: Path, report: Report, *, drop_label_sets: bool = False) -> dict[str, Any]:
    """Publish a served repository; returns its manifest. Raises ExportError, leaving the destination as it was.

    Label sets that the destination has already are kept where they fit the new encoder. Where they do not, that is
    LabelSetMismatch, unless they are to be dropped.
    """
    report(f"weights: {_origin(request)}")
    checkpoint = request.load()
    precision = resolve_precision(request.precision, request.host)
    device = resolve_device(request.device)
    deployment = deployment_of(checkpoint, request.host)
    report("reference: eager open_clip in fp32 on the sample photographs and sentences")
    reference = compute_reference(checkpoint, device)
    probe = build_probe(checkpoint, device)
    with staged(destination, request.host) as repository:
        configure(repository, deployment)
        write_warmup_texts(repository, deployment)
        # The manifest first: it digests the weights, which the encoders then take over, fold and cast in place.
        manifest = build_manifest(
            checkpoint,
            deployment,
            precision=precision,
            tokenizer_digest=write_tokenizer(
                checkpoint.tokenizer, repository / "text_tokenize" / "1" / "tokenizer.json"
            ),
            max_batch_size=read_config(repository / "embed_image" / "config.pbtxt").max_batch_size,
        )
        if not drop_label_sets:
            for name in carry_over(destination, repository, manifest["fingerprint"]):
                report(f"label set kept: {name}")
        _trace_all(checkpoint, repository, reference.pixels, reference.tokens, precision, device, report)
        report("verify: the traced files against the reference, at batch sizes 1, 2, 7 and 16")
        cosines = verify(repository, reference, precision, device)
        # Rounded up, a cosine could claim what was not reached.
        manifest |= {"verified": {name: math.floor(cosine * 1e6) / 1e6 for name, cosine in cosines.items()}}
        if request.model is not None:
            name_models(repository, request.model)
            manifest |= {NAME: request.model}
        manifest |= {"artifacts": digest_artifacts(repository, request.model)}
        write_manifest(manifest | {"probe": probe, "recipe": request.recipe()}, repository)
        report(f"publish: smallest cosine {min(cosines.values()):.6f}; {destination}")
    return manifest


def deployment_of(checkpoint: Checkpoint, host: str) -> Deployment:
    """What the configs must know of a checkpoint and its host; UnsupportedModel for a tokenizer that is not served."""
    return Deployment(
        host=host,
        preprocessing=checkpoint.preprocessing,
        embedding_width=checkpoint.embedding_width,
        tokenizer=tokenizer_settings(checkpoint.tokenizer),
        small_image_encoder=checkpoint.image_parameters < SMALL_ENCODER_PARAMETERS,
    )


def _trace_all(
    checkpoint: Checkpoint,
    repository: Path,
    pixels: torch.Tensor,
    tokens: torch.Tensor,
    precision: str,
    device: torch.device,
    report: Report,
) -> None:
    dtype = DTYPES[precision]
    settings = checkpoint.preprocessing
    report(f"trace: image_encoder in {precision}")
    image_encoder = ImageEncoder(checkpoint.image_tower, settings.mean, settings.std, dtype).to(device)
    images = pixels[:2].to(device)
    sliced = InSlices(image_encoder, images_in_a_slice(image_encoder, images))
    trace(sliced, (images,), _artifact(repository, "image_encoder"))
    report(f"trace: text_encoder in {precision}")
    text_encoder = TextEncoder(checkpoint.model, dtype)
    trace(text_encoder.to(device), (tokens[:2].to(device),), _artifact(repository, "text_encoder"))
    similarity = Similarity(checkpoint.logit_scale, checkpoint.logit_bias)
    features = torch.eye(2, device=device)
    trace(similarity.to(device), (features, features), _artifact(repository, "similarity"))


def _artifact(repository: Path, model: str) -> Path:
    return repository / model / "1" / "model.pt"


def _origin(request: Request) -> str:
    if request.random:
        return f"RANDOM WEIGHTS of {request.variant.architecture}; the answers will mean nothing"
    if request.checkpoint is not None:
        return f"{request.variant.name} from {request.checkpoint}"
    if isinstance(request.variant, LocalVariant):
        return f"{request.variant.name} from {request.variant.folder}"
    if isinstance(request.variant, MixedVariant):
        mixture = request.variant
        return f"{mixture.alpha:g} of the way from {mixture.first.name} to {mixture.second.name}"
    return f"{request.variant.name} from the hub, or its local cache"
