"""What can go wrong between weights and a served repository.

ExportError                  every failure the exporter reports; the command prints it in one line and exits 1
├── UnknownVariant           no such variant, architecture or pretrained tag
├── UnsupportedModel         open_clip has it, tritonclip cannot serve it (yet); the message names the part
├── WeightsUnavailable       the checkpoint is missing, unreadable, or the hub cannot be reached
└── ArtifactDrift            the traced artifact does not reproduce eager open_clip; nothing was published
"""


class ExportError(Exception):
    """A failure the exporter reports in one line."""


class UnknownVariant(ExportError):
    """No such variant, architecture or pretrained tag."""


class UnsupportedModel(ExportError):
    """A model open_clip has and tritonclip cannot serve."""


class WeightsUnavailable(ExportError):
    """The checkpoint is missing or unreadable, or the hub cannot be reached."""


class ArtifactDrift(ExportError):
    """The traced artifact does not reproduce eager open_clip."""
