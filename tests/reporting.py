"""Comparisons of made-up runs."""

import csv
import json

from parcnet_train.actions import compare as action

PNG = b"\x89PNG\r\n\x1a\n"


BASELINE, BETTER = (0.50, 0.52, 0.51), (0.60, 0.62, 0.615)


def report(folder, output, baseline=None):
    """Report on a folder, and return the results and the rows of the CSV table."""
    paths = {"runs": "unused", "cache": "unused", "output": str(output)}
    config = {
        "action": "compare",
        "paths": paths,
        "report": {"runs": str(folder), "baseline": baseline},
    }
    results = action.compare(config)
    assert results == json.loads((output / "results.json").read_text())
    with (output / "table.csv").open(newline="") as stream:
        return results, list(csv.DictReader(stream))


def of_row(rows, number):
    (row,) = (row for row in rows if row["row"] == str(number))
    return row
