"""Whether what a server answers can be true, before anybody sees it.

A server that computes nonsense (a kernel gone wrong, a file damaged) answers with status 200 all the same. Each check
finds the rows at fault, so that the others can still be used; an answer of a wrong shape is a ProtocolError as a whole.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from tritonclip._errors import ProtocolError, TritonClipError
from tritonclip.protocol.messages import FloatArray

TOLERANCE: Final = 1e-3  # of a length of 1, of a cosine's and of a probability's bounds

Faults = dict[int, str]
"""What is wrong, by row."""


class VectorError(ProtocolError):
    """One item's answer cannot be true; those of its neighbours can."""


_Mask = npt.NDArray[np.bool_]


def check_features(model: str, features: FloatArray, count: int, width: int | None) -> Faults:
    """Features must be [count, width], finite, and of length 1."""
    if features.ndim != 2 or len(features) != count or features.shape[1] < 1:
        raise ProtocolError(f"{model}: shape {list(features.shape)} for {count} items")
    if width is not None and features.shape[1] != width:
        raise ProtocolError(
            f"{model}: rows of {features.shape[1]} values, and {width} in the manifest: did the server's model change?"
        )
    finite = np.isfinite(features).all(axis=1)
    with np.errstate(invalid="ignore", over="ignore"):
        lengths = np.linalg.norm(features.astype(np.float64), axis=1)
        right = np.abs(lengths - 1) <= TOLERANCE
    faults = _faults(~finite, "the vector has values that are not finite")
    return faults | {row: f"the vector has length {lengths[row]:.4g} in place of 1" for row in _rows(finite & ~right)}


def check_scores(model: str, scores: dict[str, FloatArray], shape: tuple[int, int]) -> Faults:
    """Scores must each be [images, texts], finite, cosines in -1..1 and probabilities in 0..1."""
    faults: Faults = {}
    for name, values in scores.items():
        if values.shape != shape:
            raise ProtocolError(f"{model}: {name} of shape {list(values.shape)}, expected {list(shape)}")
        low, high = _BOUNDS.get(name, (-np.inf, np.inf))
        finite = np.isfinite(values)
        with np.errstate(invalid="ignore"):
            inside = (values >= low - TOLERANCE) & (values <= high + TOLERANCE)
        faults |= _faults(~finite.all(axis=1), f"a value of {name} is not finite")
        faults |= _faults((finite & ~inside).any(axis=1), f"a value of {name} is outside {low:g} to {high:g}")
    return faults


def fault_errors(model: str, noun: str, faults: Faults, positions: list[int]) -> dict[int, TritonClipError]:
    """The error of each row at fault, by the position of its item in what the caller gave."""
    return {
        positions[row]: VectorError(f"{model}: {noun} {positions[row]}: {fault}")
        for row, fault in sorted(faults.items())
    }


_BOUNDS: Final = {"cosine": (-1.0, 1.0), "probabilities": (0.0, 1.0)}


def _faults(rows: _Mask, fault: str) -> Faults:
    return dict.fromkeys(_rows(rows), fault)


def _rows(mask: _Mask) -> list[int]:
    rows: list[int] = np.flatnonzero(mask).tolist()
    return rows
