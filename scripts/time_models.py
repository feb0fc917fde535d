"""Times exported models on a device that lacks this package: see `--help`.

Needs NumPy and the runtime of the files. `benchmark.target=latency` puts the same script beside its
files, to be copied with them.
"""

import runpy
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "src" / "parcnet_train" / "deploy" / "runtimes.py"

if __name__ == "__main__":
    runpy.run_path(str(SCRIPT), run_name="__main__")
