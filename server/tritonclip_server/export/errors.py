"""What can go wrong between weights and a served repository.

ExportError                  every failure the exporter reports; the command prints it in one line and exits 1
├── UnknownVariant           no such variant, architecture or pretrained tag
├── UnsupportedModel         open_clip has it, tritonclip cannot serve it (yet); the message names the part
├── WeightsUnavailable       the checkpoint is missing, unreadable, or the hub cannot be reached
├── TokenizerUnavailable     the same of the tokenizer, where open_clip takes it from the hub
├── ArtifactDrift            the traced artifact does not reproduce eager open_clip; nothing was published
├── RepositoryNotFound       a label set was to go into a folder that is no served repository
├── DestinationTaken         where the repository should go lies something else, which publishing would remove
├── RepositoryDamaged        an artifact of it is not the file that was published
├── BadMixture               two checkpoints that cannot be interpolated, or an alpha outside 0..1
├── BadLabels                labels, templates or a name that cannot be used; the message has the file and the line
├── BadHead                  a file of a trained head that is none, is damaged, or is for another encoder
├── LabelSetMismatch         label sets of the old repository do not fit the new encoder; nothing was published
├── ActivationRefused        a running server does not take a label set up; nothing has changed, there or on the disk
└── ActivationFailed         it was published, and a running server did not take it up wholly; the message says which
"""


class ExportError(Exception):
    """A failure the exporter reports in one line."""


class UnknownVariant(ExportError):
    """No such variant, architecture or pretrained tag."""


class UnsupportedModel(ExportError):
    """A model open_clip has and tritonclip cannot serve."""


class WeightsUnavailable(ExportError):
    """The checkpoint is missing or unreadable, or the hub cannot be reached."""


class TokenizerUnavailable(ExportError):
    """A model's tokenizer is missing or unreadable, or the hub cannot be reached."""


class ArtifactDrift(ExportError):
    """The traced artifact does not reproduce eager open_clip."""


class BadMixture(ExportError):
    """Two checkpoints that cannot be interpolated, or an alpha outside 0..1."""


class RepositoryNotFound(ExportError):
    """A folder that is no served repository."""


class DestinationTaken(ExportError):
    """Where a repository should be published lies a file, or a folder of something else."""


class RepositoryDamaged(ExportError):
    """An artifact of a served repository is not the file that was published."""


class BadLabels(ExportError):
    """Labels, templates or a name that cannot be used for a label set."""


class BadHead(ExportError):
    """A file of a trained head that cannot be published."""


class LabelSetMismatch(ExportError):
    """Label sets that were made for another encoder than the one to be published."""


class ActivationRefused(ExportError):
    """A running server does not take a label set up; nothing has changed."""


class ActivationFailed(ExportError):
    """A label set was published, and a running server did not take it up wholly."""
