"""Anchors ("default boxes") of SSD (arXiv 1512.02325), from which a detector predicts offsets.

Scales, ratios and their order are released values of the authors' detector.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

# Sides of the squares as shares of the image, evenly spaced; LARGEST is one level past the last.
SMALLEST, LARGEST = 0.1, 1.05
RATIOS = (2, 3)  # aspect ratios of the other boxes
LAST_RATIOS = (2,)  # on the coarsest level


def make_anchors(
    map_sizes: Sequence[tuple[int, int]],
    smallest: float = SMALLEST,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Make the anchors of all levels, finest level first, row by row, cell by cell.

    Args:
        map_sizes: Height and width of the feature map of every level.
        smallest: Side of the smallest squares of the finest level, as a share of the image.
        device: Device of the anchors.

    Returns:
        `(A, 4)` float32: center x, center y, width, height, as shares of the image, within [0, 1].
    """
    anchors = []
    levels = box_shapes(len(map_sizes), smallest)
    for (rows, columns), shapes in zip(map_sizes, levels, strict=True):
        x, y = (
            (torch.arange(n, dtype=torch.float32, device=device) + 0.5) / n for n in (columns, rows)
        )
        # The copy must not wait for the device, which is busy with the maps.
        sides = torch.tensor(shapes, dtype=torch.float32, device="cpu")
        width, height = sides.to(device, non_blocking=True).unbind(1)
        grid = (rows, columns, len(shapes))
        box = [part.expand(grid) for part in (x[:, None], y[:, None, None], width, height)]
        anchors.append(torch.stack(box, dim=-1).reshape(-1, 4))
    # As released, only widths and heights are clipped to those of the image, not the corners.
    return torch.cat(anchors).clamp(0, 1)


def box_shapes(levels: int, smallest: float) -> Iterator[list[tuple[float, float]]]:
    """Yield widths and heights of the anchors of a cell, as shares of the image, level by level."""
    scales = [smallest + (LARGEST - smallest) * level / levels for level in range(levels + 1)]
    for level, (small, next_small) in enumerate(itertools.pairwise(scales), 1):
        big = math.sqrt(small * next_small)
        shapes = [(small, small), (big, big)]
        for ratio in RATIOS if level < levels else LAST_RATIOS:
            long, short = small * math.sqrt(ratio), small / math.sqrt(ratio)
            shapes += [(long, short), (short, long)]
        yield shapes


def anchors_per_cell(levels: int) -> list[int]:
    """Return the number of anchors per cell of each level, finest first."""
    return [len(shapes) for shapes in box_shapes(levels, SMALLEST)]
