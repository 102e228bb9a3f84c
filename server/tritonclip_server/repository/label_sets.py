"""Label sets in a served repository: their models, and the record of what they were made of.

    classify_NAME ─┐
    head_NAME ─────┴──> head_NAME.EDITION     ensembles, under names that stay; and the model with the weights

An edition is a digest of everything that an answer depends on. Another one is another model beside the old one, so that
a running Triton goes over from labels and weights of the one to labels and weights of the other in one step. A record
without an edition is of a version that knew none: its weights are head_NAME itself. Where a repository was published by
a name of its own, that stands before all of these.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from tritonclip_server.repository.manifest import file_digest, json_digest, model_folder

Kind = Literal["zero-shot", "trained"]

RECORD = "label_set.json"  # in the version folder of head_NAME
EDITION_HEX_DIGITS = 12


@dataclass(frozen=True)
class LabelSet:
    """What is written beside a head: what it was made of, and for which fingerprint."""

    name: str
    fingerprint: str
    labels: tuple[str, ...]
    templates: tuple[str, ...]  # of a trained one: none
    weights_sha256: str  # of the head's values, fp32: label vectors [C, D]; trained: weight [C, D], then bias [C]
    model_sha256: str = ""  # of the TorchScript file; empty until it is written
    kind: Kind = "zero-shot"
    threshold: float | None = None  # of a trained one: the proposed least probability, below which it is none of these
    edition: str = ""

    @property
    def models(self) -> tuple[str, str]:
        """The models that clients call, which have the labels."""
        return models_of(self.name)

    @property
    def weights(self) -> str:
        """The model that has the weights."""
        return weights_of(self.name, self.edition)

    @property
    def labels_file(self) -> str:
        """The name of the file of labels in the folder of each of `models`."""
        return f"labels.{self.edition}.txt" if self.edition else "labels.txt"

    @property
    def folders(self) -> set[str]:
        """All folders of a served repository that hold it."""
        return {*self.models, self.weights}


def models_of(name: str) -> tuple[str, str]:
    """The models of a label set that clients call."""
    return f"head_{name}", f"classify_{name}"


def weights_of(name: str, edition: str) -> str:
    """The model that has the weights of an edition of a label set."""
    return f"head_{name}.{edition}" if edition else f"head_{name}"


def edition_of(label_set: LabelSet) -> str:
    """The edition of a label set by its other fields, whatever file its weights lie in."""
    document = {key: value for key, value in asdict(label_set).items() if key not in ("edition", "model_sha256")}
    return json_digest(document)[:EDITION_HEX_DIGITS]


def label_set_names(repository: Path) -> list[str]:
    """The names of all label sets of a served repository, damaged ones too."""
    head = model_folder(repository, "head_").name
    names = sorted(folder.name.removeprefix(head) for folder in repository.glob(f"{head}*"))
    return [name for name in names if "." not in name]  # those of weights have one


def stored_label_sets(repository: Path) -> list[LabelSet]:
    """The undamaged label sets of a served repository, by name."""
    records = [read_label_set(repository, name) for name in label_set_names(repository)]
    return [record for record in records if record is not None]


def read_label_set(repository: Path, name: str) -> LabelSet | None:
    """A label set of a served repository; None where it is not there, not whole, or not what was published."""
    try:
        document = json.loads((model_folder(repository, f"head_{name}") / "1" / RECORD).read_text(encoding="utf-8"))
        record = LabelSet(**document | {key: tuple(document[key]) for key in ("labels", "templates")})
        artifact = model_folder(repository, record.weights) / "1" / "model.pt"
        whole = file_digest(artifact) == record.model_sha256 and record.name == name
        whole = whole and record.edition in ("", edition_of(record))
        texts = {(model_folder(repository, model) / record.labels_file).read_bytes() for model in record.models}
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return record if whole and texts == {label_lines(record.labels)} else None


def write_label_set(label_set: LabelSet, head: Path) -> None:
    """Write the record of a label set into the folder of its head."""
    record = json.dumps(asdict(label_set), ensure_ascii=False, indent=1) + "\n"
    (head / "1" / RECORD).write_text(record, encoding="utf-8")


def label_lines(labels: tuple[str, ...]) -> bytes:
    """A file of labels, as Triton reads it."""
    return "".join(f"{label}\n" for label in labels).encode()
