"""Rows of the paper's tables against the printed tables."""

from parcnet_train.report.paper.tables import TABLES

# Copied from the paper, arXiv 2203.03952, where "*" marks different hyperparameters.
TABLE_1 = """
ShuffleNetV2 (2.0x) 5.5 74.5
MobileNetV3 (1.0x) 5.4 75.2
EfficientNet-B0 5.3 76.3
T2T-ViT-7 4.3 71.7
DeiT-T 5.7 72.2
ViT-C 4.6 75.3
CoaT-Lite-T 5.7 76.6
MobileViT-S 5.6 78.4
ParC-Net-S 5.0 78.6
"""
TABLE_2 = """
1 classification Baseline - - - 5.6 78.35
2 classification BK 1/4 Y Y N 5.0 78.46
3 classification BK 1/2 Y Y N 5.0 78.45
4 classification ParC N Y Y 5.3 76.00
5 classification ParC Y N Y 5.0 78.50
6 classification ParC Y Y N 5.0 78.63
7 classification ParC Y Y Y 5.0 78.63
8 detection Baseline - - - 5.7 27.7
9 detection ParC Y Y N 5.2 27.5
10 detection ParC Y Y Y 5.2 28.5
11 segmentation Baseline - - - 6.4 79.1
12 segmentation ParC Y Y N 5.8 79.2
13 segmentation ParC Y Y Y 5.8 79.7
"""
TABLE_3 = """
1 MobileViT-S 5.6M 4.0G RK3288 457 78.4
2 ParC-Net-S 5.0M 3.5G RK3288 353 78.6
3 MobileViT-S 5.6M 4.0G DP2000 368 78.4
4 ParC-Net-S 5.0M 3.5G DP2000 98 78.6
5 ResNet50 26M 4.1G CPU 98 78.8
6 ParC-ResNet50 24M 4.0G CPU 98 79.6
7 MobileNetV2 3.5M 0.6G CPU 24 70.2
8 ParC-MobileNetV2 3.5M 0.6G CPU 27 71.1
9 ConvNext-T (0.5x W) 7.4M 1.1G CPU 47 77.5
10 ParC-ConvNext-T (0.5x W) 7.4M 1.1G CPU 48 78.3
"""
TASKS = {"val/top1": "classification", "val/map": "detection", "val/miou": "segmentation"}


def lines_of(table):
    return table.strip().splitlines()


def test_table_1_matches_the_paper():
    rows = TABLES["table1"]
    assert [f"{row.model} {row.parameters} {row.metric}" for row in rows] == lines_of(TABLE_1)
    assert [row.number for row in rows] == list(range(1, 10))


def test_table_2_matches_the_paper():
    printed = [
        " ".join(
            (
                str(row.number),
                TASKS[row.metric_name],
                *(cell for _, cell in row.columns),
                str(row.parameters),
                f"{row.metric:.{2 if row.number <= 7 else 1}f}",
            )
        )
        for row in TABLES["table2"]
    ]
    assert printed == lines_of(TABLE_2)
    assert [name for name, _ in TABLES["table2"][0].columns] == ["Kernel", "MF", "CA", "PE"]


def test_table_3_matches_the_paper():
    printed = [
        f"{row.number} {row.model} {row.parameters}M {row.flops}G "
        f"{row.device} {row.milliseconds} {row.metric}"
        for row in TABLES["table3"]
    ]
    assert printed == lines_of(TABLE_3)


def test_tasks_have_the_classes_and_sizes_of_the_paper():
    facts = {row.metric_name: (row.num_classes, row.size) for row in TABLES["table2"]}
    assert facts == {
        "val/top1": (1000, (256, 256)),
        "val/map": (81, (320, 320)),
        "val/miou": (21, (512, 512)),
    }
