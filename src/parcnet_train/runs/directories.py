"""Layout of run directories: where a run writes, and which run `ckpt=` refers to.

Runs are in runs/<task>/<backbone>-<data>/<start time>/, those of actions without data in
runs/<action>/<start time>/. Processes of torchrun or SLURM cannot agree on a time; they use
torchrun-<id>/ or slurm-<job>/ instead. If a name is taken, the next one is <name>_2, and so on.
Jobs of a sweep are in runs/sweeps/<name>/<words>-<hash>/ at every start (docs/guides/sweeps.md).
A run directory contains:
    checkpoints/best.ckpt  checkpoints/last.ckpt  results.json  progress.json  report.html
    report.json  pictures/  provenance.json  git.diff  parcnet_train.log  csv/  .hydra/  run.json
    outcome.json
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from parcnet_train.distributed.processes import is_restarted, place
from parcnet_train.errors import CheckpointError, UnwritableError, reason_of
from parcnet_train.files import remedy, to_json, write_whole
from parcnet_train.runs.actions import ACTIONS, SECTIONS, action_of
from parcnet_train.runs.releases import located, weights_in

LAST = Path("checkpoints") / "last.ckpt"
RESULTS = "results.json"
PROGRESS = "progress.json"
PAGE = "report.html"
PROVENANCE = "provenance.json"
RECORD = "run.json"  # when and where a run started; resuming does not change it
LOCK = "run.lock"  # exists while a process works in the directory
OUTCOME = "outcome.json"  # how a run ended without results
BEST = Path("checkpoints") / "best.ckpt"
AVERAGE = Path("checkpoints") / "average.ckpt"
EPOCHS = "best_epoch*.ckpt"  # beside best.ckpt, if checkpoint.keep_best is more than one

SWEEPS = "sweeps"  # folder of all sweeps, among the runs
NAMED_FOR = ("task", "backbone", "data")  # config groups whose choices name the folder of a run

EVALUATIONS = [name for name, each in ACTIONS.items() if each.evaluates]
ENDING = re.compile(rf"_({'|'.join(EVALUATIONS)})(_\d+)?$")  # suffix of an evaluation's directory
FOLDERS = [name for name, each in ACTIONS.items() if each.own_runs]  # folders among the runs
NAME = "%Y-%m-%d_%H-%M-%S"  # a run is named by its start time
NAMED = re.compile(r"(\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d)(?:_(\d+))?")
NEWEST = "last"  # `ckpt=last`

# Sections of names, paths and loggers, which do not affect results. `choices` names config files,
# whose values are in the configuration.
NO_PART_OF_A_RESULT = ("paths", "choices", "overrides", "logger")
# Keys of other sections that do not affect results either, by section.
WITHOUT_RESULT = {
    "data": ("cache", "cache_gb", "timeout_minutes"),
    "task": ("pictures",),
    "trainer": ("timeout_minutes",),
}
# Keys that do not affect what a training computes.
NOT_OF_A_TRAINING = ("action", "ckpt", "input", *NO_PART_OF_A_RESULT, *SECTIONS)


@dataclass(frozen=True)
class RunSpec:
    """Values that decide where a run writes and which checkpoint it reads.

    Attributes:
        action: Name of the action.
        ckpt: Value of `ckpt`; see `find_checkpoint`.
        runs: Root folder of all runs.
        task: Chosen task.
        backbone: Chosen backbone.
        data: Chosen data.
        overrides: Overrides of the command line.
    """

    action: str
    ckpt: str | None
    runs: str
    task: str
    backbone: str
    data: str
    overrides: Sequence[str] = ()


def config_hash(config: Mapping[str, Any]) -> str:
    """Return a hash of everything that affects the result of a run.

    Its subject is the document as a whole, so it takes a plain configuration.

    Args:
        config: Configuration as plain values. `ckpt` is included if it is evaluated, but not for
            trainings, since a resumed training is still the same training.

    Returns:
        Twelve hexadecimal digits. 1 and 1.0 are different values: one batch and all batches.
    """
    action = action_of(config.get("action"))
    left_out = {*NO_PART_OF_A_RESULT, *SECTIONS}
    left_out -= {action.section} if action else set()
    if action is None or action.trains or action.checkpoint == "none":
        left_out.add("ckpt")
    if config.get("action") != "predict":
        left_out.add("input")
    values = {name: value for name, value in config.items() if name not in left_out}
    for part, keys in WITHOUT_RESULT.items():
        node = values.get(part, {})
        values[part] = {name: value for name, value in node.items() if name not in keys}
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def reads_checkpoint(action: str, target: str) -> bool:
    """Return whether `ckpt` may be set for an action.

    Args:
        action: Name of the action.
        target: Value of `benchmark.target`, which matters only to benchmarks.
    """
    if action == "benchmark":
        return target != "operator"  # times single operators, no network
    return ACTIONS[action].checkpoint != "none"


def find_checkpoint(
    ckpt: str,
    runs: str | Path,
    action: str,
    task: str | None = None,
    backbone: str | None = None,
    data: str | None = None,
) -> Path:
    """Return the checkpoint file that `ckpt=` refers to.

    Args:
        ckpt: Value of `ckpt`: `last`, or as in `checkpoint_in`.
        runs: Root folder of all runs, which is searched for `last`.
        action: Name of the action. Trainings use the last checkpoint of a run, others the best.
        task: Task of the run that `last` refers to; None: any.
        backbone: Backbone of the run that `last` refers to; None: any.
        data: Data of the run that `last` refers to; None: any.

    Raises:
        CheckpointError: If there is no such file.
    """
    wanted = LAST if ACTIONS[action].trains else BEST
    if ckpt == NEWEST:
        newest = newest_run(runs, task, backbone, data)
        if newest is None or not (newest / wanted).is_file():
            found = (
                "there is no run"
                if newest is None
                else f"the newest run, {newest}, has no such checkpoint"
            )
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
            "expected `last`, a checkpoint file, or a run directory"
        )
    return path


def newest_run(
    runs: str | Path, task: str | None, backbone: str | None, data: str | None
) -> Path | None:
    """Return the training of a task, a backbone and a data set that started last.

    Args:
        runs: Root folder of all runs. Jobs of sweeps are ignored: their names are no start times.
        task: Task of the run; None: any.
        backbone: Backbone of the run; None: any.
        data: Data of the run; None: any.
    """
    words = [glob.escape(word) if word else "*" for word in (task, backbone, data)]
    found = Path(runs).expanduser().glob("{}/{}-{}/*".format(*words))
    trained = [
        run
        for run in found
        if run.parts[-3] not in (SWEEPS, *FOLDERS) and not ENDING.search(run.name)
    ]
    return next(reversed(by_start(trained)), None)


def checkpoint_in(path: str | Path, wanted: Path = BEST, key: str = "ckpt") -> Path:
    """Return a checkpoint file.

    Args:
        path: The file itself, a run directory, the folder of a release, or its name on the hub.
        wanted: File of a run directory.
        key: Config key that has this value, for the message.

    Raises:
        CheckpointError: If the hub's folder is neither in the cache nor can be downloaded.
    """
    found = located(path, key)
    if not found.is_dir():
        return found
    return weights_in(found) or found / wanted


def by_start(folders: Iterable[Path]) -> list[Path]:
    """Return the run directories among some paths, in the order of their start.

    A copy has the start time of its original and comes before it, so that the last one is never a
    copy.
    """

    def key(run: Path) -> tuple[float, bool, int]:
        is_original = read_values(run / RECORD).get("directory") == str(run.resolve())
        return started_at(run), is_original, -len(run.name)

    return sorted(filter(is_run, folders), key=key)


def is_run(folder: Path) -> bool:
    """Return whether a path is a run directory."""
    return (folder / RECORD).is_file() or (folder / ".hydra").is_dir()


def started_at(run: Path) -> float:
    """Return the start time of a run in seconds since 1970.

    It is read from `run.json`, which copying does not change. For runs of earlier versions without
    this file, it comes from the name or the provenance, else from the age of `.hydra`.
    """
    if (started := seconds_of(read_values(run / RECORD).get("started"))) is not None:
        return started
    if match := NAMED.match(run.name):
        with contextlib.suppress(ValueError):  # the digits may not be a date
            second = datetime.strptime(match[1], NAME).timestamp()
            return second + 1e-6 * int(match[2] or 1)
    with contextlib.suppress(LookupError, TypeError):  # it may hold anything
        started = seconds_of(read_values(run / PROVENANCE)["sessions"][0]["started"])
        if started is not None:
            return started
    notes = run / ".hydra"
    return (notes if notes.is_dir() else run).stat().st_mtime


def seconds_of(moment: Any) -> float | None:
    """Return the seconds since 1970 of an ISO date and time, None for anything else."""
    try:
        return datetime.fromisoformat(moment).timestamp()
    except (TypeError, ValueError):
        return None


def checkpoint_of(spec: RunSpec) -> Path:
    """Return the checkpoint file that a run refers to, if its `ckpt` is set.

    Raises:
        CheckpointError: If there is no such file.
    """
    assert spec.ckpt is not None
    return find_checkpoint(spec.ckpt, spec.runs, spec.action, spec.task, spec.backbone, spec.data)


def evaluated_by(spec: RunSpec) -> list[Path]:
    """Return the checkpoint files of an evaluation: one, or the best epochs to be averaged.

    Raises:
        CheckpointError: If there is no file, or fewer than two to be averaged.
    """
    path = checkpoint_of(spec)
    if spec.action != "average":
        return [path]
    epochs = sorted(path.parent.glob(EPOCHS))
    if len(epochs) < 2:
        raise CheckpointError(
            f"ckpt={spec.ckpt}: {path.parent} contains {len(epochs)} files {EPOCHS}; an "
            "average needs at least two. Fix: train with checkpoint.keep_best=5, then set ckpt to "
            "the run directory"
        )
    return epochs


def named_runs(runs: str, task: str, backbone: str, data: str) -> Path:
    """Return the folder of all runs of a task, a backbone and a data set."""
    return Path(runs).expanduser() / task / f"{backbone}-{data}"


def run_of(checkpoint: Path) -> Path | None:
    """Return the run directory whose last checkpoint this is, None for other files."""
    run = checkpoint.resolve().parent.parent
    is_last = checkpoint.resolve() == run / LAST
    return run if is_last and (run / ".hydra").is_dir() else None


def goes_on_from(spec: RunSpec, output: Path) -> Path | None:
    """Return the checkpoint file that a training resumes from; None: it starts from the beginning.

    A command that SLURM or torchrun starts again resumes from its own last checkpoint. No other
    process writes a checkpoint during this call, since all processes synchronize later, in the fit.

    Args:
        spec: Values that name the run and its checkpoint.
        output: Directory of the run.

    Raises:
        CheckpointError: If there is no such file, or this run would overwrite that of another.
    """
    if is_again(output, spec.overrides) and (output / LAST).is_file():
        return output / LAST
    found = None if spec.ckpt is None else checkpoint_of(spec)
    is_own = found is not None and found.resolve() == (output / LAST).resolve()
    if (output / LAST).is_file() and not is_own:
        raise CheckpointError(
            f"hydra.run.dir={output}: it contains {LAST} of another training, which this one would "
            f"overwrite. Fix: resume that training with ckpt={output}, or name another directory "
            "with hydra.run.dir=PATH or a new --rdzv-id of torchrun"
        )
    return found


def run_dir(runs: str, task: str, backbone: str, data: str, action: str, ckpt: str | None) -> str:
    """Return the directory of a run: that of the run which it resumes, else a new one.

    The directory is not created here, since many configurations are composed without a run; see
    `claims.claim`.

    Args:
        runs: Root folder of all runs.
        task: Chosen task.
        backbone: Chosen backbone.
        data: Chosen data.
        action: Name of the action. An evaluation never writes into the directory of the training.
        ckpt: Value of `ckpt` on the command line.
    """
    named = runs_like(runs, task, backbone, data, action)
    if resumed := resumed_run(action, ckpt, runs, task, backbone, data):
        return str(resumed)
    return str(
        next(each for each in new_names(named, action) if place().is_shared or not each.exists())
    )


def runs_like(runs: str, task: str, backbone: str, data: str, action: str) -> Path:
    """Return the folder that contains the directory of a run and of similar runs."""
    if action in FOLDERS:
        return Path(runs).expanduser() / action
    return named_runs(runs, task, backbone, data)


def resumed_run(
    action: str, ckpt: str | None, runs: str, task: str, backbone: str, data: str
) -> Path | None:
    """Return the directory of the run that a training resumes; None: it is a new run."""
    if ckpt is None or action != "fit":
        return None
    return run_of(find_checkpoint(ckpt, runs, action, task, backbone, data))


def new_names(named: Path, action: str) -> Iterator[Path]:
    """Yield candidate directories for a new run, endlessly, in the order of preference."""
    name = place().run_name or datetime.now().strftime(NAME)
    first = f"{name}_{action}" if action in EVALUATIONS else name
    yield named / first
    for number in itertools.count(2):
        yield named / f"{first}_{number}"


def is_again(folder: Path, overrides: Sequence[str]) -> bool:
    """Return whether SLURM or torchrun has started a command before, with this run directory.

    torchrun counts restarts after a failure, but not those after a machine has left or joined. Then
    the name of its run and the command are those that the directory was created for.

    Args:
        folder: Run directory.
        overrides: Overrides of the command line; those of Hydra itself do not count.
    """
    if is_restarted():
        return True
    here, record = place(), read_values(folder / RECORD)
    if here.started_by != "torchrun" or here.run_name is None:
        return False
    before, now = (
        [each for each in texts if not str(each).startswith("hydra.")]
        for texts in (list_in(record, "overrides"), overrides)
    )
    # Hydra's job also has what comes from a checkpoint, at the end.
    return record.get("run_name") == here.run_name and now[: len(before)] == before


def read_values(path: Path) -> dict[str, Any]:
    """Return the values of a JSON file of a run; empty if it is missing or damaged."""
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def list_in(values: Mapping[str, Any], key: str) -> list[Any]:
    """Return a list in the values of a JSON file; empty if it is missing or something else."""
    found = values.get(key)
    return found if isinstance(found, list) else []


def write_results(folder: Path, results: dict[str, Any]) -> None:
    """Write `results.json` atomically: flat keys, which the README documents.

    Raises:
        UnwritableError: If it cannot be written.
    """
    try:
        write_whole(folder / RESULTS, to_json(results, indent=2))
    except UnwritableError as error:
        if not (folder / LAST).is_file():
            raise
        raise UnwritableError(
            f"{folder / RESULTS} cannot be written: {reason_of(error.__cause__ or error)}; the "
            f"training is complete and saved. Fix: {remedy(error)}, then repeat the command with "
            f"ckpt={folder}, which evaluates it"
        ) from error
