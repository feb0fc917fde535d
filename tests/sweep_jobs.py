"""Jobs of a sweep as small processes."""

FINISH = """
import json, os, sys
from pathlib import Path
folder, identity = Path(sys.argv[1]), sys.argv[2]
results = {"status": "done", "config_hash": identity, "monitor": "val/top1", "val/top1": 0.5}
with (folder / "started").open("a") as file:
    file.write(os.environ.get("CUDA_VISIBLE_DEVICES", "-") + "\\n")
"""


WRITE = "(folder / 'results.json').write_text(json.dumps(results))"


def states(rows):
    return [row.state for row in rows]


def starts(job):
    file = job.folder / "started"
    return file.read_text().split() if file.is_file() else []
