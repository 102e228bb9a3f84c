"""Large batches of images in slices, on a CPU: what a layer makes of one slice is memory that the process has already.

    pixels [64, 3, S, S] ──split──> 8 at a time ──encoder──> cat [64, D]

The C library gives a tensor above 32 MiB back to the system as soon as it is freed, and the system clears every page of
the next one. A layer of a convolutional tower makes up to 4 MiB of an image, and 256 of 64 images: clearing such memory
took nearly as long as the arithmetic (docs/performance.md). A GPU's memory is kept, and large batches suit it best.
"""

import torch
from torch import Tensor, nn

from tritonclip_server.export.errors import UnsupportedModel

KEPT = 32 << 20  # bytes: the greatest threshold up to which malloc keeps what is freed (DEFAULT_MMAP_THRESHOLD_MAX)


class InSlices(nn.Module):
    """An image encoder that takes so many images at a time on a CPU, and whole batches elsewhere."""

    def __init__(self, tower: nn.Module, most: int) -> None:
        super().__init__()
        self.tower = tower
        self.most = most

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels: uint8 [B, 3, S, S]. Returns fp32 [B, D]. Compiled, not traced: a trace would fix the number."""
        if pixels.is_cuda or len(pixels) <= self.most:
            features: Tensor = self.tower(pixels)
            return features
        return torch.cat([self.tower(part) for part in torch.split(pixels, self.most)])


@torch.inference_mode()
def images_in_a_slice(encoder: nn.Module, pixels: Tensor) -> int:
    """How many images an encoder can take with no layer's output above KEPT; pixels: uint8 [B, 3, S, S], any images.

    Raises UnsupportedModel for a tower that does not give a vector an image.
    """
    largest = 1

    def note(_module: nn.Module, _inputs: tuple[object, ...], output: object) -> None:
        nonlocal largest
        if isinstance(output, Tensor):
            largest = max(largest, output.nbytes // len(pixels))

    handles = [module.register_forward_hook(note) for module in encoder.modules()]
    try:
        encoder.eval()(pixels)
    except Exception as error:
        raise UnsupportedModel(f"its {type(encoder).__name__} cannot be traced: {error}") from error
    finally:
        for handle in handles:
            handle.remove()
    return max(1, KEPT // largest)
