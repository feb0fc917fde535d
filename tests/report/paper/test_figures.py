"""Points of the figures in the paper."""

from parcnet_train.report.paper.figures import PAPER_FIGURES
from parcnet_train.report.paper.tables import TABLE_2, TASKS


def test_points_match_table_2():
    for task, figure in PAPER_FIGURES.items():
        metric = TASKS[task][0]
        (baseline,) = (
            row for row in TABLE_2 if row.metric_name == metric and row.columns[0][1] == "Baseline"
        )
        points = {name: numbers for name, *numbers in figure.points}
        assert points["MobileViT-S"] == [baseline.parameters, round(baseline.metric + 1e-9, 1)]
    assert points["ParC-Net-S"] == [5.8, 79.7]


# Copied from the paper, arXiv 2203.03952, Figures 5 (b), 6 (b) and 7 (b): parameters in millions,
# metric in percent.
PRINTED = {
    "classification": """
ShuffleNetV2 (2.0x) 5.5 74.5
MobileNetV3 (1.0x) 5.4 75.2
EfficientNet-B0 5.3 76.3
DenseNet-169 14.0 76.2
ResNet-101-SE 49.3 77.6
PVT-T 13.2 75.1
T2T-ViT-12 6.9 76.5
T2T-T 6.9 76.5
Swin-1G 7.3 77.3
DeIT-2G 9.5 77.6
ConViT-T 6.0 73.1
ViTC 4.6 75.3
CoaT-Lite-T 5.7 76.6
LeViT-128S 7.8 76.6
Mobile-Former 9.4 76.7
MobileViT-S 5.6 78.4
ConvNext-T (0.5x) 7.4 77.5
ParC-Net-S 5.0 78.6
""",
    "detection": """
MobileNetV3 4.9 22.0
MobileNetV2 4.3 22.1
MobileNetV1 5.1 22.2
MixNet 4.5 22.3
MNASNet 4.9 23.0
MobileViT-XS 2.7 24.8
VGG 35.6 25.1
ResNet50 22.9 25.2
MobileViT-S 5.7 27.7
ParC-Net-S 5.2 28.8
""",
    "segmentation": """
MobileViT-XXS 1.9 73.6
MobileNetV1 11.2 75.3
MobileNetV2 4.5 75.7
MobileViT-XS 2.9 77.1
ResNet-101 58.2 80.5
MobileViT-S 6.4 79.1
ParC-Net-S 5.8 79.7
""",
}


def test_points_are_as_printed():
    for task, printed in PRINTED.items():
        points = [f"{name} {size} {percent}" for name, size, percent in PAPER_FIGURES[task].points]
        assert points == printed.strip().splitlines()
