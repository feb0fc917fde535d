"""Reports in Markdown."""

import re

from parcnet_train.report.paper.tables import TASKS
from reporting import PNG


def test_markdown_has_a_table_per_task(made_report):
    text = (made_report[0] / "table.md").read_text()
    assert re.findall("^## (.*)$", text, re.MULTILINE) == [
        *(f"Table 2, {task}" for task in TASKS),
        "Other runs",
    ]
    assert len(re.findall(r"^\| \d+ \|", text, re.MULTILINE)) == 13
    assert re.search(
        r"^\| 7 \| ParC \| Y \| Y \| Y \| 5.0 M \| 5,000,003 \| 78.63 \| 61.17 ± 1.04 \| 3 \| "
        r"\+10.17 \\\[\+9.45, \+10.88\\\] \| higher \|$",
        text,
        re.MULTILINE,
    )
    assert "| 8 | Baseline | - | - | - | 5.7 M |  | 27.7 | not run | 0 |  |  |" in text
    assert "Ours: data=demo, recipe=imagenet\\_300e, epochs=2. Paper: ImageNet-1K" in text
    assert "row 7, seed 0: 2 runs of one configuration" in text
    assert "bad: results.json is not valid JSON" in text
    assert "data=a\\|\\<b> " in text
    assert "MIXED" not in text
    for name in re.findall(r"\]\((.*\.png)\)", text):
        assert (made_report[0] / name).read_bytes().startswith(PNG)
