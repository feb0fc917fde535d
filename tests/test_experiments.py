"""Experiments: one for each row of the paper whose backbone is here, and what its header says."""

import re

import pytest

from parcnet_train.config.compose import CONF
from parcnet_train.report.paper.tables import TABLE_2

# Copied from the paper, arXiv 2203.03952: Tables 1 and 3, Figures 6 and 7; in percent.
PRINTED = {
    "imagenet_mobilevit_s": ("val/top1", 78.4),
    "imagenet_parcnet_s": ("val/top1", 78.6),
    "imagenet_resnet50": ("val/top1", 78.8),
    "imagenet_parc_resnet50": ("val/top1", 79.6),
    "imagenet_mobilenetv2": ("val/top1", 70.2),
    "imagenet_parc_mobilenetv2": ("val/top1", 71.1),
    "imagenet_convnext_xt": ("val/top1", 77.5),
    "imagenet_parc_convnext_xt": ("val/top1", 78.3),
    "coco_mobilenetv2": ("val/map", 22.1),
    "coco_mobilevit_xs": ("val/map", 24.8),
    "coco_resnet50": ("val/map", 25.2),
    "coco_mobilevit_s": ("val/map", 27.7),
    "coco_parcnet_s": ("val/map", 28.8),
    "voc_mobilevit_xxs": ("val/miou", 73.6),
    "voc_mobilenetv2": ("val/miou", 75.7),
    "voc_mobilevit_xs": ("val/miou", 77.1),
    "voc_mobilevit_s": ("val/miou", 79.1),
    "voc_parcnet_s": ("val/miou", 79.7),
}


def header_of(group, name):
    lines = (CONF / group / f"{name}.yaml").read_text().splitlines()
    comments = [line.removeprefix("#").strip() for line in lines if line.startswith("#")]
    return " ".join(comments)


@pytest.mark.parametrize("name", PRINTED)
def test_a_header_says_what_is_reproduced_how_and_with_which_number(name):
    metric, percent = PRINTED[name]
    header = header_of("experiment", name)
    assert re.search(r"Paper, .*(Tables? [123]|Figure [67])", header)
    assert f"python -m parcnet_train experiment={name} trainer=ddp" in header
    assert f"Expected {metric}: {percent / 100:.3f}" in header
    assert header.endswith("Not run.")


def test_every_experiment_is_a_row_of_the_paper():
    assert {file.stem for file in (CONF / "experiment").glob("**/*.yaml")} == PRINTED.keys()


def test_a_row_of_table_2_has_its_file_with_its_number():
    for row in TABLE_2:
        header = header_of("ablation", f"table2_row{row.number}")
        assert f"Paper, Table 2, row {row.number}: " in header
        expected = re.search(r"Expected (\S+) on \w+: ([\d.]+)", header)
        assert (expected[1], float(expected[2].rstrip("."))) == (
            row.metric_name,
            pytest.approx(row.metric / 100),
        )
    assert len(list((CONF / "ablation").glob("*"))) == len(TABLE_2) == 13
