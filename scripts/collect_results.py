"""Copy the small files of finished or failed runs into a folder that is committed.

Of every run below RUNS, the results, the metrics of each epoch and the provenance are copied;
host names and the folders of absolute paths are removed:

    python scripts/collect_results.py runs/sweeps/proof_bccd docs/results/runs/bccd
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from parcnet_train.runs.directories import OUTCOME, PROVENANCE, RESULTS, read_values

METRICS = "csv/version_*/metrics.csv"
# The folders of an absolute path, also of one within an override; the last part stays. The slash of
# a relative path follows a name, and those of an address follow a colon.
FOLDERS = re.compile(r"(?<![\w.:/])~?/(?:[^\s/,'\"\]}]+/)*")
LEFT_OUT = "removed"


def main() -> None:
    """Copy the files of every run that has ended."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("runs", type=Path, metavar="RUNS", help="folder of run directories")
    parser.add_argument("output", type=Path, metavar="FOLDER", help="folder to copy to")
    arguments = parser.parse_args()
    if not arguments.runs.is_dir():
        parser.error(f"{arguments.runs}: no such folder; expected a folder of runs")
    ended = [file.parent for file in sorted(arguments.runs.rglob(PROVENANCE)) if has_ended(file)]
    for run in ended:
        copy_run(run, arguments.output / run.relative_to(arguments.runs))
    print(f"{len(ended)} runs are in {arguments.output}")


def has_ended(provenance: Path) -> bool:
    """Return whether a run finished or failed; one that was stopped will resume."""
    outcome = read_values(provenance.parent / OUTCOME).get("outcome")
    return (provenance.parent / RESULTS).is_file() or outcome not in (None, "stopped")


def copy_run(run: Path, output: Path) -> None:
    """Copy the small files of a run, without what describes the machine's owner."""
    output.mkdir(parents=True, exist_ok=True)
    for file in files_of(run):
        copy = output / file.relative_to(run)
        copy.parent.mkdir(parents=True, exist_ok=True)
        text = file.read_text()
        if file.suffix == ".json":
            text = json.dumps(anonymous(json.loads(text)), indent=2) + "\n"
        copy.write_text(text)


def files_of(run: Path) -> Iterator[Path]:
    """Yield the files of a run that are copied."""
    yield from (run / name for name in (RESULTS, OUTCOME, PROVENANCE) if (run / name).is_file())
    yield from run.glob(METRICS)


def anonymous(value: Any) -> Any:
    """Return values of a JSON file without host names and folders of absolute paths."""
    if isinstance(value, dict):
        return {key: LEFT_OUT if key == "host" else anonymous(each) for key, each in value.items()}
    if isinstance(value, list):
        return [anonymous(each) for each in value]
    return FOLDERS.sub("", value) if isinstance(value, str) else value


if __name__ == "__main__":
    main()
