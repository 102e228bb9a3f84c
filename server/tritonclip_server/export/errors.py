"""What can go wrong between weights and a served repository.

ExportError                  every failure the exporter reports; the command prints it in one line and exits 1
├── UnknownVariant           no such variant, architecture or pretrained tag
├── UnsupportedModel         open_clip has it, tritonclip cannot serve it (yet); the message names the part
├── WeightsUnavailable       the checkpoint is missing, unreadable, or the hub cannot be reached
├── ArtifactDrift            the traced artifact does not reproduce eager open_clip; nothing was published
├── RepositoryNotFound       a label set was to go into a folder that is no served repository
├── RepositoryDamaged        an artifact of it is not the file that was published
├── BadLabels                labels, templates or a name that cannot be used; the message has the file and the line
└── LabelSetMismatch         label sets of the old repository do not fit the new encoder; nothing was published
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


class RepositoryNotFound(ExportError):
    """A folder that is no served repository."""


class RepositoryDamaged(ExportError):
    """An artifact of a served repository is not the file that was published."""


class BadLabels(ExportError):
    """Labels, templates or a name that cannot be used for a label set."""


class LabelSetMismatch(ExportError):
    """Label sets that were made for another encoder than the one to be published."""
