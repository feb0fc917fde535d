"""Run directories on disk: where a run writes, and which one `ckpt=` means.

runs/<task>/<backbone>-<data>/<start time>/ (of actions without data: runs/<action>/<start time>/)
Processes that torchrun or SLURM has started cannot agree on a time: torchrun-<id>/, slurm-<job>/.
A name that is taken becomes <name>_2, and so on.
Jobs of a sweep: runs/sweeps/<name>/<words>-<hash>/, the same in every start (docs/sweeps.md).
    checkpoints/best.ckpt  checkpoints/last.ckpt  results.json  progress.json  curves.png
    provenance.json  git.diff  parcnet_train.log  csv/  .hydra/  run.json
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from parcnet_train.distributed.processes import is_restarted, place
from parcnet_train.errors import CheckpointError
from parcnet_train.files import to_json, write_whole
from parcnet_train.runs.actions import ACTIONS, SECTIONS, action_of

LAST = Path("checkpoints") / "last.ckpt"
RESULTS = "results.json"
PROGRESS = "progress.json"
PROVENANCE = "provenance.json"
RECORD = "run.json"  # when and where a run began; a resume leaves it as it is
BEST = Path("checkpoints") / "best.ckpt"
AVERAGE = Path("checkpoints") / "average.ckpt"
EPOCHS = "best_epoch*.ckpt"  # beside best.ckpt, where checkpoint.keep_best is more than one

SWEEPS = "sweeps"  # folder of all sweeps among the runs
NAMED_FOR = ("task", "backbone", "data")  # groups whose choices name the folder of a run

EVALUATIONS = [name for name, each in ACTIONS.items() if each.evaluates]
ENDING = re.compile(rf"_({'|'.join(EVALUATIONS)})(_\d+)?$")  # of the names of evaluations
FOLDERS = [name for name, each in ACTIONS.items() if each.folder]  # among the runs
NAME = "%Y-%m-%d_%H-%M-%S"  # of a run: when it began
NAMED = re.compile(r"(\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d)(?:_(\d+))?")
NEWEST = "last"  # `ckpt=last`

# Of a configuration: names and places, and what is only shown. `choices` name files whose values
# are in the configuration.
NO_PART_OF_A_RESULT = ("paths", "choices", "overrides", "logger")
SHOWN = {"task": ("pictures",)}
# What a training computes is the same with any values of these.
NOT_OF_A_TRAINING = ("action", "ckpt", "input", *NO_PART_OF_A_RESULT, *SECTIONS)


def config_hash(config: Mapping[str, Any]) -> str:
    """Names what a run computes: two runs of one hash differ in where they write, and the like.

    Args:
        config: plain values. `ckpt` counts where it is evaluated; a training that goes on from its
            own checkpoint is still the same.

    Returns:
        Twelve hexadecimal digits. 1 and 1.0 are different values: one batch, all batches.
    """
    action = action_of(config)
    left_out = {*NO_PART_OF_A_RESULT, *SECTIONS}
    left_out -= {action.section} if action else set()
    if action is None or action.trains or action.checkpoint == "none":
        left_out.add("ckpt")
    if config.get("action") != "predict":
        left_out.add("input")
    values = {name: value for name, value in config.items() if name not in left_out}
    for part, keys in SHOWN.items():
        node = values.get(part, {})
        values[part] = {name: value for name, value in node.items() if name not in keys}
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def reads_checkpoint(config: Mapping[str, Any]) -> bool:
    """Whether a run with these values may be given a checkpoint."""
    if config["action"] == "benchmark":
        return bool(config["benchmark"]["target"] != "operator")  # of no network
    return ACTIONS[config["action"]].checkpoint != "none"


def is_quantized(config: Mapping[str, Any]) -> bool:
    """Whether a run exports int8, for which it reads training images."""
    return config["action"] == "export" and config["export"].get("precision") == "int8"


def find_checkpoint(
    ckpt: str,
    runs: str | Path,
    action: str,
    task: str | None = None,
    backbone: str | None = None,
    data: str | None = None,
) -> Path:
    """The checkpoint file that `ckpt=` means.

    Args:
        ckpt: `last`, a checkpoint file, or a run directory.
        runs: Root of all runs, in which `last` is looked for.
        action: A training resumes from a run's last checkpoint, everything else takes its best.
        task: Choice that the run of `last` must have, like the next two; None: any.
        backbone: Choice of the backbone.
        data: Choice of the data.

    Raises:
        CheckpointError: if there is none.
    """
    wanted = LAST if ACTIONS[action].trains else BEST
    if ckpt == NEWEST:
        newest = newest_run(runs, task, backbone, data)
        if newest is None or not (newest / wanted).is_file():
            found = "there is no run" if newest is None else f"the newest run, {newest}, has none"
            named = f"{task or '*'}/{backbone or '*'}-{data or '*'}"
            raise CheckpointError(
                f"ckpt={NEWEST}: {found}; expected {wanted.name} in a run of {runs}/{named}/. "
                "Fix: name a run directory or a checkpoint file: ckpt=PATH"
            )
        return newest / wanted
    path = checkpoint_in(ckpt, wanted)
    if not path.is_file():
        raise CheckpointError(
            f"ckpt={ckpt}: {path} does not exist; "
            "allowed are `last`, a checkpoint file, or a run directory"
        )
    return path


def newest_run(
    runs: str | Path, task: str | None, backbone: str | None, data: str | None
) -> Path | None:
    """The training that began last among those of a task, a backbone and a data set.

    Args:
        runs: Root of all runs. Jobs of sweeps are left out: they are not named by their start.
        task: Choice of the run, like the next two; None: any.
        backbone: Choice of the backbone.
        data: Choice of the data.
    """
    words = [glob.escape(word) if word else "*" for word in (task, backbone, data)]
    found = Path(runs).expanduser().glob("{}/{}-{}/*".format(*words))
    trained = [
        run
        for run in found
        if run.parts[-3] not in (SWEEPS, *FOLDERS) and not ENDING.search(run.name)
    ]
    return next(reversed(by_start(trained)), None)


def checkpoint_in(path: str | Path, wanted: Path = BEST) -> Path:
    """The file that a path means: itself, or of a run directory the wanted one."""
    path = Path(path).expanduser()
    return path / wanted if path.is_dir() else path


def by_start(folders: Iterable[Path]) -> list[Path]:
    """The run directories among these paths, in the order in which the runs began.

    A copy began when its original did, and comes before it: the last one is never a copy.
    """

    def key(run: Path) -> tuple[float, bool, int]:
        is_original = read_values(run / RECORD).get("directory") == str(run.resolve())
        return started_at(run), is_original, -len(run.name)

    return sorted(filter(is_run, folders), key=key)


def is_run(folder: Path) -> bool:
    """Whether a path is a run directory."""
    return (folder / RECORD).is_file() or (folder / ".hydra").is_dir()


def started_at(run: Path) -> float:
    """The time at which a run began, in seconds since 1970.

    It is read from `run.json`, which copying and editing do not change. Runs without one, from
    earlier versions, tell it by their name or their provenance, else by the age of `.hydra`.
    """
    if (started := seconds_of(read_values(run / RECORD).get("started"))) is not None:
        return started
    if match := NAMED.match(run.name):
        with contextlib.suppress(ValueError):  # the digits are no date
            second = datetime.strptime(match[1], NAME).timestamp()
            return second + 1e-6 * int(match[2] or 1)
    sessions = read_values(run / PROVENANCE).get("sessions") or [{}]
    if (started := seconds_of(sessions[0].get("started"))) is not None:
        return started
    notes = run / ".hydra"
    return (notes if notes.is_dir() else run).stat().st_mtime


def seconds_of(moment: Any) -> float | None:
    """Seconds since 1970 of an ISO date and time, None for anything else."""
    try:
        return datetime.fromisoformat(moment).timestamp()
    except (TypeError, ValueError):
        return None


def checkpoint_of(config: Mapping[str, Any]) -> Path:
    """The checkpoint file that a run's configuration asks for.

    Raises:
        CheckpointError: where there is none.
    """
    names = {group: config["choices"][group] for group in NAMED_FOR}
    return find_checkpoint(config["ckpt"], config["paths"]["runs"], config["action"], **names)


def evaluated_by(config: dict[str, Any]) -> list[Path]:
    """The checkpoint files that an evaluation reads: one, or the best epochs for their average.

    Raises:
        CheckpointError: where there is none, or no two to be averaged.
    """
    path = checkpoint_of(config)
    if config["action"] != "average":
        return [path]
    epochs = sorted(path.parent.glob(EPOCHS))
    if len(epochs) < 2:
        raise CheckpointError(
            f"ckpt={config['ckpt']}: {path.parent} holds {len(epochs)} of {EPOCHS}, an average "
            "needs two or more; train with checkpoint.keep_best=5, and name the run directory"
        )
    return epochs


def named_runs(runs: str, task: str, backbone: str, data: str) -> Path:
    """The folder of all runs of one task, backbone and data."""
    return Path(runs).expanduser() / task / f"{backbone}-{data}"


def run_of(checkpoint: Path) -> Path | None:
    """The run directory that a checkpoint is the last one of, None for any other file."""
    run = checkpoint.resolve().parent.parent
    is_last = checkpoint.resolve() == run / LAST
    return run if is_last and (run / ".hydra").is_dir() else None


def goes_on_from(config: dict[str, Any]) -> Path | None:
    """The checkpoint file that a training goes on from; None: it begins.

    What SLURM or torchrun starts again by the same command goes on from what it has written itself.
    No process sees what another one writes now: it does so once all of them have met, in the fit.

    Raises:
        CheckpointError: where there is none, or this run would overwrite those of another one.
    """
    output = Path(config["paths"]["output"])
    if is_restarted() and (output / LAST).is_file():
        return output / LAST
    found = None if config["ckpt"] is None else checkpoint_of(config)
    is_own = found is not None and found.resolve() == (output / LAST).resolve()
    if (output / LAST).is_file() and not is_own:
        raise CheckpointError(
            f"{output} holds {LAST} of another training, which this one would overwrite; go on "
            f"with that one by ckpt={output}, or name another directory: hydra.run.dir=PATH, or a "
            "new --rdzv-id of torchrun"
        )
    return found


def run_dir(runs: str, task: str, backbone: str, data: str, action: str, ckpt: str | None) -> str:
    """The directory of a run: that of the checkpoint which it resumes, else a new one.

    It is not made here, since much is composed that never runs: see `claims.claim`.

    Args:
        runs: root of all runs.
        task: chosen task, like the next two.
        backbone: chosen backbone.
        data: chosen data.
        action: an evaluation never writes into the training run's directory.
        ckpt: as given on the command line.
    """
    named = runs_like(runs, task, backbone, data, action)
    if resumed := resumed_run(action, ckpt, runs, task, backbone, data):
        return str(resumed)
    return str(next(each for each in new_names(named, action) if is_shared() or not each.exists()))


def runs_like(runs: str, task: str, backbone: str, data: str, action: str) -> Path:
    """The folder of a run and those like it."""
    if action in FOLDERS:
        return Path(runs).expanduser() / action
    return named_runs(runs, task, backbone, data)


def resumed_run(
    action: str, ckpt: str | None, runs: str, task: str, backbone: str, data: str
) -> Path | None:
    """The run that a training goes on with, in its own directory; None: it makes a new one."""
    if ckpt is None or action != "fit":
        return None
    return run_of(find_checkpoint(ckpt, runs, action, task, backbone, data))


def new_names(named: Path, action: str) -> Iterator[Path]:
    """Directories for a new run, endlessly, in the order in which they are tried."""
    name = place().run_name or datetime.now().strftime(NAME)
    first = f"{name}_{action}" if action in EVALUATIONS else name
    yield named / first
    for number in itertools.count(2):
        yield named / f"{first}_{number}"


def is_shared() -> bool:
    """Whether several processes must find the same directory without asking each other."""
    return place().world_size > 1


def read_values(path: Path) -> dict[str, Any]:
    """The values of a JSON file of a run; empty where it is not there, or not whole."""
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def write_results(folder: Path, results: dict[str, Any]) -> None:
    """Writes `results.json`: flat keys, documented in the README; replaced as a whole."""
    write_whole(folder / RESULTS, to_json(results, indent=2))
