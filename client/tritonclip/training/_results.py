"""What a training found: the head, and what it is worth on images that it was not trained on."""

from dataclasses import dataclass, field

from tritonclip._errors import TritonClipError
from tritonclip.evaluation import ClassScore, Confusion, LabelledImage, Proportion
from tritonclip.evaluation._accuracy import Answer, class_scores, top_k, worst_confusions
from tritonclip.protocol.messages import FloatArray
from tritonclip.training._difference import Difference
from tritonclip.training._head import Head
from tritonclip.training._rejection import Rejection
from tritonclip.training._selection import Fit


@dataclass(frozen=True, eq=False)
class Scores:
    """What images were taken for: ``answers`` in their order, with the ``confidence`` [N] of the best label each."""

    answers: tuple[Answer, ...]
    confidence: FloatArray = field(repr=False)

    @property
    def accuracy(self) -> Proportion:
        """The share of images whose label is the best."""
        return top_k(self.answers, 1)

    @property
    def classes(self) -> tuple[ClassScore, ...]:
        """Each class that has images, the worst first."""
        return class_scores(self.answers)

    @property
    def confusions(self) -> tuple[Confusion, ...]:
        """The pairs of classes that are confused most often."""
        return worst_confusions(self.answers)


@dataclass(frozen=True)
class CurvePoint:
    """A head of so many images a class (None: of all): how many they are together, and its accuracy."""

    images_a_class: int | None
    images: int
    strength: float
    accuracy: Proportion


@dataclass(frozen=True)
class Calibration:
    """The expected calibration error (0..1) before and after dividing logits by the ``temperature``."""

    temperature: float
    before: float
    after: float


@dataclass(frozen=True, eq=False)
class Measured:
    """A fit and what it is worth on images that it has not seen.

    ``zero_shot`` is what the texts alone make of the same images, and ``gain`` the fit's share minus theirs; both are
    None where labels have no texts. ``rejection`` is None where too few images are right to find a threshold by.
    """

    fit: Fit
    scores: Scores
    zero_shot: Scores | None
    gain: Difference | None
    curve: tuple[CurvePoint, ...]
    calibration: Calibration
    rejection: Rejection | None


@dataclass(frozen=True, eq=False)
class Training:
    """A trained head, and its measures on the images ``tested``.

    ``failures`` are images that could not be embedded, by path. Left out were ``repeated`` ones, which are there
    already in another place, and ``common`` ones, which were to be tested on and are among those trained on.
    ``trained_on`` is how many images the head has seen; ``cached`` ones were not sent to the server.
    """

    head: Head
    measured: Measured
    trained_on: int
    tested: tuple[LabelledImage, ...]
    failures: dict[str, TritonClipError]
    repeated: tuple[str, ...]
    common: tuple[str, ...]
    cached: int
    seconds: float
