"""Experiments: what the header of each file says, and whether the paper prints its number."""

import re

import pytest

from parcnet_train.config.compose import CONF
from parcnet_train.report.paper.figures import FIGURES
from parcnet_train.report.paper.later import TODAY
from parcnet_train.report.paper.tables import TABLE_1, TABLE_2, TABLE_3, TASKS
from running import files_of

EXPERIMENTS = files_of("experiment")
TABLES = {"1": TABLE_1, "2": TABLE_2, "3": TABLE_3}
PREFIXES = {"val/top1": "imagenet", "val/map": "coco", "val/miou": "voc"}


def header_of(file):
    """The comments of a file, without those that are meant for programs."""
    lines = file.read_text().splitlines()
    comments = [line.removeprefix("#").strip() for line in lines if line.startswith("#")]
    return " ".join(each for each in comments if not each.startswith(("@", "yaml-language-server")))


def override_of(file, group):
    """The choice of a group in a file's defaults."""
    return re.search(rf"- override /{group}: (\w+)", file.read_text())[1]


def plain(name):
    """A network's name as the paper and our files can both write it."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def printed_for(file):
    """Percentages that the tables and figures named in a header print for a file's network."""
    sources = header_of(file).partition(": ")[0]
    backbone, metric = override_of(file, "backbone"), TASKS[override_of(file, "task")][0]
    found = []
    for number in re.findall(r"\d", "".join(re.findall(r"Tables? (\d(?: and \d)?)", sources))):
        found += [
            row.metric
            for row in TABLES[number]
            if row.metric_name == metric
            and (f"backbone={backbone}" in row.overrides or plain(row.model) == plain(backbone))
        ]
    for number in re.findall(r"Figure (\d)", sources):
        found += [
            row.metric
            for row in FIGURES[f"figure{number}"]
            if row.metric_name == metric and f"backbone={backbone}" in row.overrides
        ]
    return found


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_header_says_what_is_expected_and_how_to_run_it(name):
    header, task = header_of(EXPERIMENTS[name]), override_of(EXPERIMENTS[name], "task")
    assert f"python -m parcnet_train experiment={name} " in header
    assert re.search(rf"Expected {TASKS[task][0]}: 0\.\d+", header)
    assert re.search(r"(Not run\.|Run: .*)$", header)


@pytest.mark.parametrize(
    "name", [name for name, file in EXPERIMENTS.items() if "# Paper, " in file.read_text()]
)
def test_the_paper_prints_the_expected_number(name):
    header = header_of(EXPERIMENTS[name])
    expected = float(re.search(r"Expected \S+: (0\.\d+)", header)[1])
    assert 100 * expected in [pytest.approx(percent) for percent in printed_for(EXPERIMENTS[name])]


COMPARED = [
    row
    for row in (*TABLE_1, *TABLE_3, *(row for rows in FIGURES.values() for row in rows), *TODAY)
    if row.overrides
]


def experiment_of(row):
    """The name of the experiment that trains a row's network."""
    (backbone,) = (each for each in row.overrides if each.startswith("backbone="))
    return f"{PREFIXES[row.metric_name]}_{backbone.removeprefix('backbone=')}"


def test_every_row_of_the_paper_has_an_experiment():
    assert {experiment_of(row) for row in COMPARED} <= EXPERIMENTS.keys()


@pytest.mark.parametrize("row", TODAY, ids=lambda row: row.model)
def test_later_networks_are_expected_to_reach_what_was_published(row):
    header = header_of(EXPERIMENTS[experiment_of(row)])
    assert f"Expected val/top1: {row.metric / 100:.3f}" in header
    source = dict(row.columns)["source"]
    assert source.split(", ")[-1] in header or row.model == "ParC-Net-S"


def test_each_row_of_table_2_has_an_ablation_file():
    for row in TABLE_2:
        header = header_of(CONF / "ablation" / f"table2_row{row.number}.yaml")
        assert f"Paper, Table 2, row {row.number}: " in header
        expected = re.search(r"Expected (\S+) on \w+: ([\d.]+)", header)
        assert (expected[1], float(expected[2].rstrip("."))) == (
            row.metric_name,
            pytest.approx(row.metric / 100),
        )
    assert len(list((CONF / "ablation").glob("table2_*"))) == len(TABLE_2) == 13
