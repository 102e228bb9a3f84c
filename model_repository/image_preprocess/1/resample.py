"""Resize as Pillow resizes, to the bit, in a third of the time: compiled for the processor at hand.

    pixels [H,W] ─one axis─> rounded and clipped to 8 bits ─the other axis─> [height, width]

A pixel is one uint32 of four 8-bit channels, and each channel is resized by itself. The arithmetic is Pillow's
(src/libImaging/Resample.c): an output pixel is a weighted sum over a window of source pixels, which the filter's reach
gives and which is stretched by the scale where the image shrinks (that is the antialiasing); weights are rounded to 22
fractional bits and summed in 32-bit integers. So the result is Pillow's own, which the parity tests demand.

numba compiles the two inner functions when this module is imported, which takes two or three seconds. It keeps the code
beside this file or in the user's cache, where either can be written, and the next process just loads it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint32]
Integers = NDArray[np.int32]
Function = TypeVar("Function", bound=Callable[..., object])

_FRACTION_BITS = 22  # of a weight: 32, less the 8 of a channel and 2 for overshoot and sign
_ONE = 1 << _FRACTION_BITS
_TOGETHER = 16  # pixels that are summed side by side: their 64 channels fill the widest vector registers


class Axis(NamedTuple):
    """How one axis is resized: the first `extent` source pixels (the last may count in part) become `full` pixels, of
    which `shown` from `start` on are wanted."""

    extent: float
    full: int
    start: int
    shown: int


class _Windows(NamedTuple):
    """int32 [shown], [shown], [shown, widest]: each output pixel's first source pixel, how many, and their weights."""

    firsts: Integers
    sizes: Integers
    weights: Integers


def resample(pixels: Pixels, horizontal: Axis, vertical: Axis, *, vertical_first: bool, cubic: bool) -> Pixels:
    """Give uint32 [vertical.shown, horizontal.shown] of `pixels`, uint32 [H,W] with any strides.

    The filter is Keys' cubic with a = -0.5, or else the triangle (bilinear). The order of the axes shows in the
    result, because what is between them is rounded and clipped.
    """
    columns, rows = _windows(pixels.shape[1], horizontal, cubic), _windows(len(pixels), vertical, cubic)
    if vertical_first:
        return _summed(_summed(pixels, rows).T, columns).T
    # The first pass is worth its time only for the rows that the second one looks at.
    first, last = rows.firsts[0], rows.firsts[-1] + rows.sizes[-1]
    rows.firsts[:] -= first
    return _summed(_summed(pixels[first:last].T, columns).T, rows)


def _windows(length: int, axis: Axis, cubic: bool) -> _Windows:
    if axis.extent == axis.full == length:  # as it is
        firsts = np.arange(axis.start, axis.start + axis.shown, dtype=np.int32)
        return _Windows(firsts, np.ones_like(firsts), np.full((axis.shown, 1), _ONE, np.int32))
    return _Windows(*_weigh(length, axis.extent / axis.full, axis.start, axis.shown, cubic))


def _summed(pixels: Pixels, windows: _Windows) -> Pixels:
    """Resize the first axis."""
    firsts, _, weights = windows
    if weights.shape[1] == 1:
        return pixels[firsts[0] : firsts[0] + len(firsts)]
    width = pixels.shape[1]
    if width < _TOGETHER:
        pixels = np.pad(pixels, ((0, 0), (0, _TOGETHER - width)))
    resized = np.empty((len(firsts), pixels.shape[1]), np.uint32)
    _sum_windows(pixels, *windows, resized)
    return resized[:, :width]


def _compiled(signature: str) -> Callable[[Function], Function]:
    """Compile now, for arguments of these types."""

    def compile_now(function: Function) -> Function:
        compiled: Any
        try:
            compiled = numba.njit(signature, cache=True)(function)
        except RuntimeError:  # there is no place for a cache
            compiled = numba.njit(signature)(function)
        return cast(Function, compiled)

    return compile_now


@_compiled("Tuple((int32[::1], int32[::1], int32[:, ::1]))(int64, float64, int64, int64, boolean)")
def _weigh(length: int, scale: float, start: int, shown: int, cubic: bool) -> tuple[Integers, Integers, Integers]:
    """Compute the windows in an axis of `length` pixels, in Pillow's order of operations: the last bit counts."""
    stretch = max(scale, 1.0)
    reach = (2.0 if cubic else 1.0) * stretch
    firsts, sizes = np.empty(shown, np.int32), np.empty(shown, np.int32)
    weights = np.zeros((shown, int(np.ceil(reach)) * 2 + 1), np.int32)
    exact = np.empty(weights.shape[1])
    for i in range(shown):
        center = (start + i + 0.5) * scale
        first, last = max(0, int(center - reach + 0.5)), min(length, int(center + reach + 0.5))
        total = 0.0
        for j in range(last - first):
            distance = abs((j + first - center + 0.5) * (1.0 / stretch))
            if cubic and distance < 1:
                exact[j] = ((-0.5 + 2) * distance - (-0.5 + 3)) * distance * distance + 1
            elif cubic and distance < 2:
                exact[j] = (((distance - 5) * distance + 8) * distance - 4) * -0.5
            elif not cubic and distance < 1:
                exact[j] = 1 - distance
            else:
                exact[j] = 0
            total += exact[j]
        for j in range(last - first):
            weight = exact[j] / total
            weights[i, j] = int(weight * _ONE + (0.5 if weight >= 0 else -0.5))
        firsts[i], sizes[i] = first, last - first
    return firsts, sizes, weights


@_compiled("void(Array(uint32, 2, 'A', readonly=True), int32[::1], int32[::1], int32[:, ::1], uint32[:, ::1])")
def _sum_windows(source: Pixels, firsts: Integers, sizes: Integers, weights: Integers, target: Pixels) -> None:
    """Fill `target` [shown, W] from `source` [H,W], 16 columns at a time: they lie close together meanwhile."""
    start, end = firsts[0], firsts[-1] + sizes[-1]
    columns = np.empty((end - start, _TOGETHER), np.uint32)
    results = np.empty(_TOGETHER, np.uint32)
    channels, result_channels = columns.view(np.uint8), results.view(np.uint8)
    sums = np.empty(4 * _TOGETHER, np.int32)
    width = source.shape[1]
    for block in range((width + _TOGETHER - 1) // _TOGETHER):
        left = min(block * _TOGETHER, width - _TOGETHER)  # the last one may overlap: loops of fixed length are faster
        for y in range(end - start):
            for x in range(_TOGETHER):
                columns[y, x] = source[start + y, left + x]
        for i in range(len(firsts)):
            first = firsts[i] - start
            sums[:] = _ONE // 2
            for j in range(sizes[i]):
                weight = weights[i, j]
                for k in range(4 * _TOGETHER):
                    sums[k] += np.int32(channels[first + j, k]) * weight
            for k in range(4 * _TOGETHER):
                result_channels[k] = min(max(sums[k] >> _FRACTION_BITS, 0), 255)
            for x in range(_TOGETHER):
                target[i, left + x] = results[x]
