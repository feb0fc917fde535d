"""Time exported models on a device without this package; see `--help`.

The script needs only NumPy and the runtimes of the files. `benchmark.target=latency` writes the
same script beside its files, so that both can be copied together.
"""

import runpy
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "src" / "parcnet_train" / "deploy" / "runtimes.py"

if __name__ == "__main__":
    runpy.run_path(str(SCRIPT), run_name="__main__")
