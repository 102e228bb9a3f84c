"""Label sets in a served repository: head_NAME and classify_NAME, and the record of what they were made of."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from tritonclip_server.repository.manifest import file_digest

RECORD = "label_set.json"  # in the version folder of head_NAME


@dataclass(frozen=True)
class LabelSet:
    """What is written beside a head: what it was made of, and for which fingerprint."""

    name: str
    fingerprint: str
    labels: tuple[str, ...]
    templates: tuple[str, ...]
    weights_sha256: str  # of the label vectors, fp32 [C, D]
    model_sha256: str  # of the head's model.pt

    @property
    def models(self) -> tuple[str, str]:
        """The folders of a served repository that hold it."""
        return f"head_{self.name}", f"classify_{self.name}"


def stored_label_sets(repository: Path) -> list[LabelSet]:
    """The undamaged label sets of a served repository, by name."""
    records = [read_label_set(head) for head in sorted(repository.glob("head_*"))]
    return [record for record in records if record is not None]


def read_label_set(head: Path) -> LabelSet | None:
    """What lies in the folder of a classifier; None where it is not whole, or not what was published."""
    try:
        document = json.loads((head / "1" / RECORD).read_text(encoding="utf-8"))
        record = LabelSet(**document | {key: tuple(document[key]) for key in ("labels", "templates")})
        whole = file_digest(head / "1" / "model.pt") == record.model_sha256 and record.models[0] == head.name
        texts = {(head.parent / model / "labels.txt").read_bytes() for model in record.models}
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return record if whole and texts == {label_lines(record.labels)} else None


def write_label_set(label_set: LabelSet, repository: Path) -> None:
    """Write the record of a label set beside its head."""
    record = json.dumps(asdict(label_set), ensure_ascii=False, indent=1) + "\n"
    (repository / label_set.models[0] / "1" / RECORD).write_text(record, encoding="utf-8")


def label_lines(labels: tuple[str, ...]) -> bytes:
    """labels.txt, as Triton reads it."""
    return "".join(f"{label}\n" for label in labels).encode()
