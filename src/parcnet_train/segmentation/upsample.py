"""From logits at the network's size to the class of every pixel of the original image."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from parcnet_train.sizes import Size

Mode = Literal["nearest", "bilinear"]

BAND = 2**24  # numbers of a band of enlarged logits: 64 MiB


def covered(size: Size, placement: Tensor) -> tuple[slice, slice]:
    """Rows and columns of the network's input that the image covers.

    Args:
        size: height and width of the original image, in pixels.
        placement: `(4,)`, see `SegmentationBatch.placements`.
    """
    scale_x, scale_y, left, top = placement.tolist()
    bottom, right = round(top + size[0] * scale_y), round(left + size[1] * scale_x)
    return slice(round(top), bottom), slice(round(left), right)


def classes_at(logits: Tensor, size: Size, mode: Mode) -> Tensor:
    """The class of every pixel, after its logits were enlarged.

    Enlarged logits of a large image may not fit into memory (21 classes of 20 megapixels: 1.7 GB),
    so they are made in bands of rows.

    Args:
        logits: `(K, h, w)`.
        size: height and width of the original image, in pixels.
        mode: `nearest` (released evaluation) or `bilinear`, both as in
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
    """Rows `start` to `stop` of `(K, h, w)` enlarged to `(K, *size)`."""
    height = logits.shape[1]
    rows = torch.arange(start, stop, device=logits.device)
    scale = height / size[0]
    if mode == "nearest":
        band = logits[:, (rows * scale).long().clamp(max=height - 1)]
        return functional.interpolate(band[None], (stop - start, size[1]), mode=mode)[0]
    # The middle of a pixel of the enlarged map lies at this height of the small one.
    middle = ((rows + 0.5) * scale - 0.5).clamp(0, height - 1)
    above = middle.long()
    below = (above + 1).clamp(max=height - 1)
    share = (middle - above).to(logits.dtype)[:, None]
    band = torch.lerp(logits[:, above], logits[:, below], share)
    return functional.interpolate(band[None], (stop - start, size[1]), mode=mode)[0]
