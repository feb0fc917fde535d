"""Mapping of boxes from the network's input to the original image."""

from __future__ import annotations

from torch import Tensor
from torchvision.ops import clip_boxes_to_image

from parcnet_train.sizes import Size


def to_original(boxes: Tensor, input_size: Size, placement: Tensor, size: Size) -> Tensor:
    """Map boxes to the pixels of the original image, and clip them to it.

    Args:
        boxes: Corners (xyxy) `(n, 4)`, as shares of the network's input.
        input_size: Height and width of that input, in pixels.
        placement: Scale and offset `(4,)`, see `DetectionBatch.placements`.
        size: Height and width of the original image, in pixels.

    Returns:
        Corners (xyxy) `(n, 4)`, in pixels.
    """
    scale, offset = placement[:2].repeat(2), placement[2:].repeat(2)
    lengths = placement.new_tensor([*input_size[::-1], *input_size[::-1]])
    return clip_boxes_to_image((boxes * lengths - offset) / scale, size)
