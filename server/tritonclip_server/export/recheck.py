"""A published repository against its checkpoint once more: the same files, of the same weights, the same answers."""

from pathlib import Path

from tritonclip_server.export.errors import ArtifactDrift, RepositoryDamaged, RepositoryNotFound
from tritonclip_server.export.pipeline import Report, Request
from tritonclip_server.export.tracing import resolve_device
from tritonclip_server.export.verification import compute_reference, verify
from tritonclip_server.repository.manifest import NAME, is_intact, read_manifest


def recheck(request: Request, repository: Path, report: Report) -> dict[str, float]:
    """Compare a served repository with the checkpoint of a request; returns the smallest cosine of each encoder.

    Raises RepositoryNotFound, RepositoryDamaged where a file is not the one that was published, and ArtifactDrift where
    it was made of other weights or answers otherwise.
    """
    manifest = read_manifest(repository)
    if manifest is None:
        raise RepositoryNotFound(f"{repository} is no served repository")
    if not is_intact(repository):
        raise RepositoryDamaged(f"{repository} does not hold the files that were published: publish it again")
    report(f"weights: {request.variant.name}")
    checkpoint = request.load()
    if checkpoint.weights_digest() != manifest.get("weights_sha256"):
        raise ArtifactDrift(f"{repository} was made of other weights than those of {request.variant.name}")
    device = resolve_device(request.device)
    report("reference: eager open_clip in fp32 on the sample photographs and sentences")
    reference = compute_reference(checkpoint, device)
    report("verify: the published files against the reference")
    return verify(repository, reference, manifest["precision"], device, manifest.get(NAME))
