"""Labels for images, from a stored label set (``label_sets``) or from labels given with the call (``free_labels``).

A softmax over one label alone says nothing, so there is no probability then; a sigmoid is the label's own.
"""

from typing import Any

from tritonclip._core.effects import Operation
from tritonclip._core.modality import IMAGE
from tritonclip._core.session import Session
from tritonclip._errors import ConfigError
from tritonclip._operations.free_labels import classify_by_free_labels
from tritonclip._operations.label_filter import LabelFilter
from tritonclip._operations.label_sets import classify_by_label_set
from tritonclip._operations.status import current_manifest
from tritonclip._operations.truncation import check_policy
from tritonclip._results import Classifications


def classify(
    session: Session,
    images: Any,
    labels: Any,
    label_set: str | None,
    *,
    template: str,
    wanted: LabelFilter,
    on_error: str,
    on_truncation: str,
    progress: bool,
) -> Operation[Classifications]:
    """Find the labels that fit each image, best first."""
    if (labels is None) == (label_set is None):
        raise ConfigError("give either labels or a label_set")
    if "{}" not in template:
        raise ConfigError(f"template {template!r} has no {{}} where the label should go")
    check_policy(on_truncation)
    manifest = yield from current_manifest(session)
    source = IMAGE.source(images)
    if label_set is not None:
        return (yield from classify_by_label_set(session, manifest, source, label_set, wanted, on_error, progress))
    return (
        yield from classify_by_free_labels(
            session, manifest, source, labels, template, wanted, on_error, on_truncation, progress
        )
    )
