"""Accuracy and size of the networks of Figures 5 to 7 of the ParC-Net paper (arXiv 2203.03952).

Parts (a) of the figures draw some of these points, and parts (b) print the numbers of all of them.
Here are all rows of parts (b).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PaperFigure:
    """Points of one figure of the paper.

    Attributes:
        name: Number of the drawing.
        source: Part of the figure that prints the numbers.
        metric: Label of the metric's axis.
        points: Network, parameters in millions and metric in percent of each point.
    """

    name: str
    source: str
    metric: str
    points: tuple[tuple[str, float, float], ...]


PAPER_FIGURES = {
    "classification": PaperFigure(
        "Figure 5a",
        "Figure 5 (b)",
        "top-1, ImageNet-1K, %",
        (
            ("ShuffleNetV2 (2.0x)", 5.5, 74.5),
            ("MobileNetV3 (1.0x)", 5.4, 75.2),
            ("EfficientNet-B0", 5.3, 76.3),
            ("DenseNet-169", 14.0, 76.2),
            ("ResNet-101-SE", 49.3, 77.6),
            ("PVT-T", 13.2, 75.1),
            ("T2T-ViT-12", 6.9, 76.5),
            ("T2T-T", 6.9, 76.5),
            ("Swin-1G", 7.3, 77.3),
            ("DeIT-2G", 9.5, 77.6),
            ("ConViT-T", 6.0, 73.1),
            ("ViTC", 4.6, 75.3),
            ("CoaT-Lite-T", 5.7, 76.6),
            ("LeViT-128S", 7.8, 76.6),
            ("Mobile-Former", 9.4, 76.7),
            ("MobileViT-S", 5.6, 78.4),
            ("ConvNext-T (0.5x)", 7.4, 77.5),
            ("ParC-Net-S", 5.0, 78.6),
        ),
    ),
    "detection": PaperFigure(
        "Figure 6a",
        "Figure 6 (b)",
        "mAP, MS-COCO, %",
        (
            ("MobileNetV3", 4.9, 22.0),
            ("MobileNetV2", 4.3, 22.1),
            ("MobileNetV1", 5.1, 22.2),
            ("MixNet", 4.5, 22.3),
            ("MNASNet", 4.9, 23.0),
            ("MobileViT-XS", 2.7, 24.8),
            ("VGG", 35.6, 25.1),
            ("ResNet50", 22.9, 25.2),
            ("MobileViT-S", 5.7, 27.7),
            ("ParC-Net-S", 5.2, 28.8),
        ),
    ),
    "segmentation": PaperFigure(
        "Figure 7a",
        "Figure 7 (b)",
        "mIOU, PASCAL VOC, %",
        (
            ("MobileViT-XXS", 1.9, 73.6),
            ("MobileNetV1", 11.2, 75.3),
            ("MobileNetV2", 4.5, 75.7),
            ("MobileViT-XS", 2.9, 77.1),
            ("ResNet-101", 58.2, 80.5),
            ("MobileViT-S", 6.4, 79.1),
            ("ParC-Net-S", 5.8, 79.7),
        ),
    ),
}
