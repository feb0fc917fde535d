"""Mixup and CutMix: training images and labels mixed from two images."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms import v2

from parcnet_train.models.model import scaled


class Mixing:
    """Mixup (arXiv 1710.09412) or CutMix (arXiv 1905.04899) of every batch.

    If both are on, each step draws one of them. All random numbers come from torch's CPU generator,
    which `callbacks.SeedStep` seeds.

    Args:
        num_classes: Length of the soft labels.
        mixup: Alpha of the Beta distribution of the weights, 0.2 in the paper; 0: off.
        cutmix: Alpha of the Beta distribution of the areas, 1.0 in the paper; 0: off.
    """

    def __init__(self, num_classes: int, mixup: float, cutmix: float) -> None:
        self.kinds = [
            kind(alpha=float(alpha), num_classes=num_classes)  # an integer is an error
            for kind, alpha in ((v2.MixUp, mixup), (v2.CutMix, cutmix))
            if alpha
        ]

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mix every image with another one of the batch.

        Args:
            images: RGB images `(B, 3, H, W)`, uint8, or float in [0, 1].
            labels: Class indices `(B,)`.

        Returns:
            `(B, 3, H, W)` float in [0, 1], and `(B, num_classes)` shares of the classes.
        """
        # torchvision mixes neighbors, which are copies of one image under repeated augmentation.
        order = torch.randperm(len(images)).to(images.device)
        kind = self.kinds[int(torch.randint(len(self.kinds), ()))]
        return kind(scaled(images[order]), labels[order])
