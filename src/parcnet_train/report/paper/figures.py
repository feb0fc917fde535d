"""Figures 5 to 7 of the ParC-Net paper: every row as printed, and the overrides that compose it.

Parts (a) of the figures draw some of these networks, and parts (b) print the numbers of all of
them. Here are all rows of parts (b). Source: arXiv 2203.03952.
"""

from __future__ import annotations

from dataclasses import dataclass

from parcnet_train.report.paper.tables import (
    IMAGENET,
    MOBILENET,
    SHUFFLENET,
    TASKS,
    Row,
    with_own_classifier,
)


@dataclass(frozen=True)
class PaperFigure:
    """Points of one figure of the paper.

    Attributes:
        name: Number of the drawing.
        source: Part of the figure that prints the numbers.
        metric: Label of the metric's axis.
        rows: Networks of the figure.
    """

    name: str
    source: str
    metric: str
    rows: tuple[Row, ...]

    @property
    def points(self) -> tuple[tuple[str, float, float], ...]:
        """Network, parameters in millions and metric in percent of each point."""
        return tuple((row.model, row.parameters, row.metric) for row in self.rows)


def classified(
    number: int, model: str, parameters: float, top1: float, backbone: str, note: str = ""
) -> Row:
    """Return a row of Figure 5, whose network has the classifier of its library or paper."""
    overrides = with_own_classifier(backbone)
    return Row(number, model, parameters, top1, overrides=overrides, size=IMAGENET, note=note)


def dense(
    task: str,
    number: int,
    model: str,
    parameters: float,
    metric: float,
    backbone: str,
    note: str = "",
) -> Row:
    """Return a row of Figure 6 or 7: a backbone under the task's head."""
    metric_name, size, num_classes = TASKS[task]
    overrides = (f"task={task}", f"backbone={backbone}")
    return Row(
        number, model, parameters, metric, metric_name, overrides, size, num_classes, note=note
    )


def detected(
    number: int, model: str, parameters: float, ap: float, backbone: str, note: str = ""
) -> Row:
    """Return a row of Figure 6."""
    return dense("detection", number, model, parameters, ap, backbone, note)


def segmented(
    number: int, model: str, parameters: float, miou: float, backbone: str, note: str = ""
) -> Row:
    """Return a row of Figure 7."""
    return dense("segmentation", number, model, parameters, miou, backbone, note)


OWN_HEAD = "the paper cites a detector with other layers; ours is the head of ParC-Net-S"

CITED = "the paper cites the number; ours is the head of ParC-Net-S"
CONVIT = "its own paper prints 6 M; the network of its authors, which timm has, is smaller"

# The numbers of a row stay on one line.
# fmt: off
FIGURE_5 = (
    classified(1, "ShuffleNetV2 (2.0x)", 5.5, 74.5, "shufflenetv2_2x", SHUFFLENET),
    classified(2, "MobileNetV3 (1.0x)", 5.4, 75.2, "mobilenetv3", MOBILENET),
    classified(3, "EfficientNet-B0", 5.3, 76.3, "efficientnet_b0"),
    classified(
        4, "DenseNet-169", 14.0, 76.2, "densenet169", "14.15 M; the paper prints whole millions"
    ),
    classified(5, "ResNet-101-SE", 49.3, 77.6, "resnet101_se"),
    classified(6, "PVT-T", 13.2, 75.1, "pvt_tiny"),
    classified(7, "T2T-ViT-12", 6.9, 76.5, "t2t_vit_12"),
    Row(8, "T2T-T", 6.9, 76.5, note="the numbers of T2T-ViT-12; the paper names no other network"),
    classified(9, "Swin-1G", 7.3, 77.3, "swin_1g"),
    classified(
        10, "DeIT-2G", 9.5, 77.6, "deit_2g",
        "no source prints its width and depth; ours are a guess with that many parameters",
    ),
    classified(11, "ConViT-T", 6.0, 73.1, "convit_tiny", CONVIT),
    classified(12, "ViTC", 4.6, 75.3, "vit_c"),
    classified(13, "CoaT-Lite-T", 5.7, 76.6, "coat_lite_tiny"),
    classified(14, "LeViT-128S", 7.8, 76.6, "levit_128s"),
    classified(15, "Mobile-Former", 9.4, 76.7, "mobile_former_214m"),
    Row(16, "MobileViT-S", 5.6, 78.4, overrides=("backbone=mobilevit_s",)),
    Row(17, "ConvNext-T (0.5x)", 7.4, 77.5, overrides=("backbone=convnext_xt",), size=IMAGENET),
    Row(18, "ParC-Net-S", 5.0, 78.6, overrides=("backbone=parcnet_s",)),
)
FIGURE_6 = (
    detected(1, "MobileNetV3", 4.9, 22.0, "mobilenetv3", OWN_HEAD),
    detected(2, "MobileNetV2", 4.3, 22.1, "mobilenetv2", OWN_HEAD),
    detected(3, "MobileNetV1", 5.1, 22.2, "mobilenetv1", OWN_HEAD),
    detected(4, "MixNet", 4.5, 22.3, "mixnet", f"{OWN_HEAD}; that it is MixNet-M is a guess"),
    detected(5, "MNASNet", 4.9, 23.0, "mnasnet", OWN_HEAD),
    detected(6, "MobileViT-XS", 2.7, 24.8, "mobilevit_xs"),
    detected(7, "VGG", 35.6, 25.1, "vgg16", OWN_HEAD),
    detected(8, "ResNet50", 22.9, 25.2, "resnet50", OWN_HEAD),
    detected(9, "MobileViT-S", 5.7, 27.7, "mobilevit_s"),
    detected(10, "ParC-Net-S", 5.2, 28.8, "parcnet_s", "Table 2 prints 28.5"),
)
FIGURE_7 = (
    segmented(1, "MobileViT-XXS", 1.9, 73.6, "mobilevit_xxs"),
    segmented(2, "MobileNetV1", 11.2, 75.3, "mobilenetv1", CITED),
    segmented(3, "MobileNetV2", 4.5, 75.7, "mobilenetv2"),
    segmented(4, "MobileViT-XS", 2.9, 77.1, "mobilevit_xs"),
    segmented(5, "ResNet-101", 58.2, 80.5, "resnet101", CITED),
    segmented(6, "MobileViT-S", 6.4, 79.1, "mobilevit_s"),
    segmented(7, "ParC-Net-S", 5.8, 79.7, "parcnet_s"),
)
# fmt: on

PAPER_FIGURES = {
    "classification": PaperFigure("Figure 5a", "Figure 5 (b)", "top-1, ImageNet-1K, %", FIGURE_5),
    "detection": PaperFigure("Figure 6a", "Figure 6 (b)", "mAP, MS-COCO, %", FIGURE_6),
    "segmentation": PaperFigure("Figure 7a", "Figure 7 (b)", "mIOU, PASCAL VOC, %", FIGURE_7),
}
FIGURES = {"figure5": FIGURE_5, "figure6": FIGURE_6, "figure7": FIGURE_7}
