"""Resize as Pillow resizes, to the bit, in a third of the time: compiled for the processor at hand.

    pixels [H,W] ─one axis─> rounded and clipped to 8 bits ─the other axis─> [height, width]

A pixel is one uint32 of four 8-bit channels, and each channel is resized by itself. The arithmetic is Pillow's
(src/libImaging/Resample.c): an output pixel is a weighted sum over a window of source pixels, which the filter's reach
gives and which is stretched by the scale where the image shrinks (that is the antialiasing); weights are rounded to 22
fractional bits and summed in 32-bit integers. So the result is Pillow's own, which the parity tests demand.

numba compiles the inner functions when this module is imported, which takes some seconds. It keeps the code where
NUMBA_CACHE_DIR says, else beside this file or in the user's cache, the first of these that can be written; the next
process just loads it. The code is for this very processor; on another one it is compiled anew.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from axis import Axis
from flatten import Pixels
from numpy.typing import NDArray

Integers = NDArray[np.int32]
Function = TypeVar("Function", bound=Callable[..., object])

_FRACTION_BITS = 22  # of a weight: 32, less the 8 of a channel and 2 for overshoot and sign
_ONE = 1 << _FRACTION_BITS
_TOGETHER = 16  # pixels that are summed side by side: their 64 channels fill the widest vector registers
_LONGEST = 65_536  # of an axis that is resized at once: all windows of a longer one would fill gigabytes


def resample(pixels: Pixels, horizontal: Axis, vertical: Axis, *, vertical_first: bool, cubic: bool) -> Pixels:
    """Give uint32 [vertical.shown, horizontal.shown] of `pixels`, uint32 [H,W] with any strides.

    The filter is Keys' cubic with a = -0.5, or else the triangle (bilinear). The order of the axes shows in the
    result, because what is between them is rounded and clipped.
    """
    if vertical_first:
        return _resized(_resized(pixels, vertical, cubic).T, horizontal, cubic).T
    # The first pass is worth its time only for the rows that the second one looks at.
    (first, _), (_, last) = _rows(vertical, 0, cubic), _rows(vertical, vertical.shown - 1, cubic)
    between = _resized(pixels[first:last].T, horizontal, cubic).T
    return _resized(between, vertical._replace(skipped=first), cubic)


def separate(pixels: Pixels, row: NDArray[np.uint8], top: int, left: int) -> None:
    """Write red, green and blue of `pixels` into `row` [3,H,W], each into its plane at this place."""
    _separate(np.ascontiguousarray(pixels), row, top, left)


def _resized(pixels: Pixels, axis: Axis, cubic: bool) -> Pixels:
    """Resize the first axis."""
    if axis.is_kept:
        start = axis.start - axis.skipped
        return pixels[start : start + axis.shown]
    if axis.extent > _LONGEST and axis.shown > 1:
        each = (axis._replace(start=axis.start + index, shown=1) for index in range(axis.shown))
        return np.concatenate([_resized(pixels, pixel, cubic) for pixel in each])
    resized = np.empty((axis.shown, pixels.shape[1]), np.uint32)
    resize = _resize if pixels.shape[1] >= _TOGETHER else _resize_narrow
    resize(pixels, axis.length, axis.extent / axis.full, axis.start, axis.skipped, cubic, resized)
    return resized


def _rows(axis: Axis, index: int, cubic: bool) -> tuple[int, int]:
    """Give the first source pixel that matters to a shown one, and that after the last."""
    position = axis.start + index
    if axis.is_kept:
        return position, position + 1
    return _window(axis.length, axis.extent / axis.full, position, cubic)


def _resize_narrow(
    source: Pixels, length: int, scale: float, start: int, skipped: int, cubic: bool, target: Pixels
) -> None:
    """Do the same as `_resize` where there are too few columns for it."""
    channels = np.ascontiguousarray(source).view(np.uint8)
    windows = zip(*_weigh(length, scale, start, len(target), cubic), target.view(np.uint8), strict=True)
    for first, size, weight, row in windows:
        seen = channels[first - skipped : first - skipped + size]
        sums = weight[:size] @ seen.astype(np.int32) + _ONE // 2
        row[:] = np.clip(sums >> _FRACTION_BITS, 0, 255)


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


@_compiled("UniTuple(int64, 2)(int64, float64, int64, boolean)")
def _window(length: int, scale: float, position: int, cubic: bool) -> tuple[int, int]:
    """Give the source pixels that matter to one of the full size: the first, and that after the last."""
    center, reach = (position + 0.5) * scale, (2.0 if cubic else 1.0) * max(scale, 1.0)
    return max(0, int(center - reach + 0.5)), min(length, int(center + reach + 0.5))


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
        first, last = _window(length, scale, start + i, cubic)
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


@_compiled("void(Array(uint32, 2, 'A', readonly=True), int64, float64, int64, int64, boolean, uint32[:, ::1])")
def _resize(source: Pixels, length: int, scale: float, start: int, skipped: int, cubic: bool, target: Pixels) -> None:
    """Fill `target` [shown, W] from `source` [H,W], 16 columns at a time, which lie close together meanwhile.

    W is 16 at least.
    """
    firsts, sizes, weights = _weigh(length, scale, start, len(target), cubic)
    top, bottom = firsts[0] - skipped, firsts[-1] + sizes[-1] - skipped
    columns = np.empty((bottom - top, _TOGETHER), np.uint32)
    results = np.empty(_TOGETHER, np.uint32)
    channels, result_channels = columns.view(np.uint8), results.view(np.uint8)
    sums = np.empty(4 * _TOGETHER, np.int32)
    width = source.shape[1]
    for block in range((width + _TOGETHER - 1) // _TOGETHER):
        left = min(block * _TOGETHER, width - _TOGETHER)  # the last one may overlap: loops of fixed length are faster
        for y in range(bottom - top):
            for x in range(_TOGETHER):
                columns[y, x] = source[top + y, left + x]
        for i in range(len(firsts)):
            first = firsts[i] - firsts[0]  # here: what the innermost loop looks up keeps it from being vectorised
            sums[:] = _ONE // 2
            for j in range(sizes[i]):
                weight = weights[i, j]
                for k in range(4 * _TOGETHER):
                    sums[k] += np.int32(channels[first + j, k]) * weight
            for k in range(4 * _TOGETHER):
                result_channels[k] = min(max(sums[k] >> _FRACTION_BITS, 0), 255)
            for x in range(_TOGETHER):
                target[i, left + x] = results[x]


@_compiled("void(Array(uint32, 2, 'C', readonly=True), uint8[:, :, ::1], int64, int64)")
def _separate(pixels: Pixels, row: NDArray[np.uint8], top: int, left: int) -> None:
    height, width = pixels.shape
    for y in range(height):
        line = pixels[y]  # by the line, or the loop over it would not be vectorised
        red = row[0, top + y, left : left + width]
        green = row[1, top + y, left : left + width]
        blue = row[2, top + y, left : left + width]
        for x in range(width):
            red[x], green[x], blue[x] = line[x], line[x] >> np.uint32(8), line[x] >> np.uint32(16)
