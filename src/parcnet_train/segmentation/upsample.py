"""Upsampling of logits to the class of every pixel of the original image."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from parcnet_train.sizes import Size

Mode = Literal["nearest", "bilinear"]

BAND = 2**24  # numbers in a band of upsampled logits: 64 MiB


def covered(size: Size, placement: Tensor) -> tuple[slice, slice]:
    """Return the rows and columns of the network's input that the image covers.

    Args:
        size: Height and width of the original image, in pixels.
        placement: Scale and offset `(4,)`, see `SegmentationBatch.placements`.
    """
    scale_x, scale_y, left, top = placement.tolist()
    bottom, right = round(top + size[0] * scale_y), round(left + size[1] * scale_x)
    return slice(round(top), bottom), slice(round(left), right)


def classes_at(logits: Tensor, size: Size, mode: Mode) -> Tensor:
    """Return the class of every pixel after upsampling the logits.

    The upsampled logits of a large image may not fit into memory (21 classes of 20 megapixels: 1.7
    GB), so they are computed in bands of rows.

    Args:
        logits: Logits `(K, h, w)`.
        size: Height and width of the original image, in pixels.
        mode: Interpolation: `nearest` (released evaluation) or `bilinear`, both as in
            `torch.nn.functional.interpolate`.

    Returns:
        `(*size)` uint8.
    """
    rows = max(1, BAND // (len(logits) * size[1]))
    bands = [
        enlarged(logits, size, start, min(start + rows, size[0]), mode).argmax(dim=0).byte()
        for start in range(0, size[0], rows)
    ]
    return torch.cat(bands)


def enlarged(logits: Tensor, size: Size, start: int, stop: int, mode: Mode) -> Tensor:
    """Return rows `start` to `stop` of `(K, h, w)` upsampled to `(K, *size)`."""
    height = logits.shape[1]
    rows = torch.arange(start, stop, device=logits.device)
    scale = height / size[0]
    if mode == "nearest":
        band = logits[:, (rows * scale).long().clamp(max=height - 1)]
        return functional.interpolate(band[None], (stop - start, size[1]), mode=mode)[0]
    # Height in the small map of the center of each row of pixels in the upsampled map.
    middle = ((rows + 0.5) * scale - 0.5).clamp(0, height - 1)
    above = middle.long()
    below = (above + 1).clamp(max=height - 1)
    share = (middle - above).to(logits.dtype)[:, None]
    band = torch.lerp(logits[:, above], logits[:, below], share)
    return functional.interpolate(band[None], (stop - start, size[1]), mode=mode)[0]
