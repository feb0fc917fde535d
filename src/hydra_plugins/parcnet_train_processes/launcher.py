"""Hydra launcher `processes`: each job of a sweep runs in its own process.

Hydra imports this module at every start, also of other programs, so it imports nothing slow.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, configure_log
from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from parcnet_train.config.compose import PlainConfig, choices, compose_plain, to_plain
from parcnet_train.config.overrides import command_of, config_dir_of, overrides_of, typed
from parcnet_train.config.stored import takes_over
from parcnet_train.errors import UserError, print_error
from parcnet_train.sweeps.grid import register_resolvers, swept_keys

if TYPE_CHECKING:
    from parcnet_train.sweeps.queue import Job
    from parcnet_train.sweeps.table import Row

register_resolvers()  # for submitit, whose jobs import this module but do not call `main`


REPORT = "report"  # folder of the report, beside the directories of the jobs

# Hydra's own sweeper uses the values of jobs only to find out whether they failed.
BASIC = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"

# The settings under `hydra.launcher`. A dataclass would need this module in `sys.modules`, but
# Hydra adds it there later.
SETTINGS = {
    "_target_": "hydra_plugins.parcnet_train_processes.launcher.ProcessesLauncher",
    "n_jobs": 1,
}
ConfigStore.instance().store(
    group="hydra/launcher", name="processes", node=SETTINGS, provider="parcnet_train"
)


class ProcessesLauncher(Launcher):
    """Launcher that runs each job as a separate `python -m parcnet_train` command.

    Args:
        n_jobs: Maximum number of concurrent jobs.
    """

    def __init__(self, n_jobs: int = 1) -> None:
        self.n_jobs = n_jobs

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Store what Hydra passes; jobs run the command again instead of the task function."""
        self.hydra_context = hydra_context
        self.config = config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run the jobs.

        Returns:
            The metric or the failure of each job.

        Raises:
            SystemExit: With code 1 if jobs failed and no optimizing sweeper needs the values, 2 if
                nothing can be started, or the jobs cannot be compared, 130 or 143 after a signal.
        """
        from parcnet_train.sweeps.launcher import compare, run_jobs, tell_failed
        from parcnet_train.sweeps.table import FAILED

        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        configs = [
            self._compose(number, overrides)
            for number, overrides in enumerate(job_overrides, initial_job_idx)
        ]
        swept = swept_keys(typed(self.config.hydra), self.config.hydra)
        try:
            rows = run_jobs([job_of(config, swept) for config in configs], self.n_jobs)
        except UserError as error:
            print_error(error)
            sys.exit(2)
        is_whole_sweep = self.config.hydra.sweeper._target_ == BASIC
        trained = [
            row.folder
            for config, row in zip(configs, rows, strict=True)
            if config.action == "fit" and row.state != FAILED
        ]
        compared = 0
        if is_whole_sweep and trained:
            compared = compare(
                list(dict.fromkeys(trained)), Path(self.config.hydra.sweep.dir) / REPORT
            )
        tell_failed(rows)
        failed = sum(row.state == FAILED for row in rows)
        message = f"{failed} of {len(rows)} jobs failed, see above; the others have finished"
        if failed and is_whole_sweep:
            print(f"error: {message}", file=sys.stderr)
            sys.exit(1)
        if compared:
            sys.exit(compared)
        return [returned(*each, message) for each in zip(configs, rows, strict=True)]

    def _compose(self, number: int, overrides: Sequence[str]) -> DictConfig:
        """Compose a job with its directory, like `hydra.core.utils.run_job`."""
        config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(config):
            config.hydra.job.num = number
            config.hydra.job.id = str(number)
        folder = Path(config.hydra.sweep.dir) / config.hydra.sweep.subdir
        with read_write(config.hydra.runtime), open_dict(config.hydra.runtime):
            config.hydra.runtime.output_dir = str(folder.absolute())
        return config


def job_of(config: DictConfig, swept: Sequence[str]) -> Job:
    """Return a composed job for our launcher.

    Args:
        config: Configuration of the job.
        swept: Keys that differ between the jobs.
    """
    from parcnet_train.sweeps.queue import Job

    HydraConfig.instance().set_config(config)  # `${hydra:...}` is resolved in it
    folder = config.hydra.runtime.output_dir
    overrides = overrides_of(typed(config.hydra))
    telling = [each.input_line for each in overrides if each.key_or_group in swept]
    return Job(
        name=" ".join(map(str, telling)) or Path(folder).name,
        folder=Path(folder),
        plain=plain_of(config, folder),
        command=command_of(config.hydra),
        resuming=command_of(config.hydra, ckpt=folder),
    )


def plain_of(config: DictConfig, folder: str) -> PlainConfig:
    """Return the configuration of a job; with a checkpoint, its stored configuration is used."""
    if not takes_over(config.action, config.ckpt):
        return to_plain(config, choices(config.hydra))
    plain = compose_plain(typed(config.hydra), config_dir_of(config.hydra))
    plain.values["paths"]["output"] = folder
    return plain


def returned(config: DictConfig, row: Row, message: str) -> JobReturn:
    """Return the result of a job for Hydra.

    Args:
        config: Configuration of the job.
        row: Final state of the job.
        message: Message of the error that Hydra raises if it asks for the value of a failed job.
    """
    from parcnet_train.sweeps.jobs import metric_of
    from parcnet_train.sweeps.table import FAILED

    task_config = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    result = JobReturn(
        overrides=typed(config.hydra),
        cfg=task_config,
        hydra_cfg=OmegaConf.masked_copy(config, "hydra"),
        working_dir=str(Path.cwd()),
        task_name=config.hydra.job.name,
    )
    if row.state == FAILED:
        result.status = JobStatus.FAILED
        result.return_value = CompactHydraException(message)  # shown without a traceback
    else:
        result.status = JobStatus.COMPLETED
        result.return_value = metric_of(row.folder)
    return result
