"""Where an image lies in the network's input, and back."""

from __future__ import annotations

from torch import Tensor

from parcnet_train.sizes import Size


def to_original(boxes: Tensor, input_size: Size, placement: Tensor, size: Size) -> Tensor:
    """Maps boxes back to the pixels of the image that was read, and clips them to it.

    Args:
        boxes: `(n, 4)` xyxy, as shares of the network's input.
        input_size: height and width of that input, in pixels.
        placement: `(4,)`, see `DetectionBatch.placements`.
        size: height and width of the original image, in pixels.

    Returns:
        `(n, 4)` xyxy, in pixels.
    """
    scale, offset = placement[:2].repeat(2), placement[2:].repeat(2)
    lengths = placement.new_tensor([*input_size[::-1], *input_size[::-1]])
    original = (boxes * lengths - offset) / scale
    limits = placement.new_tensor([*size[::-1], *size[::-1]])
    return original.clamp(min=0).minimum(limits)
