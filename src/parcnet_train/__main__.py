"""Entry point: `python -m parcnet_train [GROUP=CHOICE ...] [KEY=VALUE ...]`."""

from __future__ import annotations

import logging
import signal
import sys

import hydra
from hydra._internal.utils import get_args_parser, run_and_report

from parcnet_train.actions.command import run_command, run_job, start
from parcnet_train.compat.garbage import collection
from parcnet_train.config.compose import CONF
from parcnet_train.distributed.processes import SWEEP, follow_launcher
from parcnet_train.distributed.user_errors import user_errors
from parcnet_train.errors import ConfigError
from parcnet_train.sweeps.grid import register_resolvers

FINDINGS = 1  # exit code of a check that finds something that a training would accept


def main() -> None:
    """Run one action, or several with `-m`; exit with 2 and one line per user error."""
    logging.raiseExceptions = False  # else each line of a log on a full disk prints a traceback
    collection.pause()
    register_resolvers()
    is_job = follow_launcher(SWEEP)
    is_checked = follow_launcher()  # by the launcher of the processes of one run
    with user_errors():
        typed = get_args_parser().parse_intermixed_args()
    of_hydra = (typed.help, typed.hydra_help, typed.cfg, typed.info, typed.experimental_rerun)
    if any((*of_hydra, typed.shell_completion)):
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(run_job)()
        return

    def run() -> None:
        with user_errors():
            if typed.config_name or typed.config_path:
                raise ConfigError(
                    "--config-name, --config-path: these options are not supported; expected "
                    "--config-dir. Fix: --config-dir=FOLDER, with your own files by group, as in "
                    "FOLDER/experiment/NAME.yaml"
                )
            if is_checked:
                start(typed.overrides, typed.config_dir)
                return
            found = run_command(typed.overrides, typed.config_dir, typed.multirun or None, is_job)
            if isinstance(found, dict) and found.get("action") == "check" and found["warnings"]:
                sys.exit(FINDINGS)

    try:
        run_and_report(run)  # cuts Hydra's own frames from a traceback
    finally:
        # All is written, so another Ctrl-C ends the process, without a traceback of what cleans up.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        collection.resume()  # what exists now need not be collected before the process ends


if __name__ == "__main__":
    main()
