"""The only front door: `python -m parcnet_train [GROUP=CHOICE ...] [KEY=VALUE ...]`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from parcnet_train.config import (
    CONF,
    PlainConfig,
    choices,
    compose_config,
    register_resolvers,
    to_plain,
)
from parcnet_train.errors import ConfigError, UserError, message_of


def main() -> None:
    """Runs one action, or several with `-m`; exits 2 with one line per fault of the user's."""
    register_resolvers()
    arguments = get_args_parser().parse_args()
    for_hydra = (arguments.help, arguments.hydra_help, arguments.cfg, arguments.info)
    if not any((*for_hydra, arguments.shell_completion)):
        with user_errors():
            config, faults = compose_config(arguments.overrides, arguments.config_dir)
            plain = to_plain(config, choices(config.hydra))
            refuse_faults(plain, faults)
        if plain.values["action"] == "check":
            print(
                "no faults: "
                + " ".join(f"{k}={v}" for k, v in plain.values["choices"].items() if v)
            )
            return
    run()


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def run(config: DictConfig) -> None:
    """One job; Hydra has made its run directory and opened its log."""
    with user_errors():
        plain = to_plain(config, choices(HydraConfig.get()))
        if HydraConfig.get().mode == RunMode.MULTIRUN:  # else `main` has checked it
            refuse_faults(plain)
        action_of(plain.values)(plain.values)


def action_of(config: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The function that a configuration's `action` names; imports torch: seconds, and only now."""
    from parcnet_train.actions import average, benchmark, profile, training

    return {
        "fit": training.fit,
        "test": training.test,
        "average": average.average,
        "profile": profile.profile,
        "benchmark": benchmark.benchmark,
    }[config["action"]]


def refuse_faults(plain: PlainConfig, faults: Sequence[str] = ()) -> None:
    """Raises every fault of a configuration at once.

    Raises:
        ConfigError: where there is any.
    """
    from parcnet_train.check import check

    found = [*faults, *plain.faults, *check(plain.values, plain.borrowed)]
    if found:
        raise ConfigError(found)


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Turns what a user can mend into lines on stderr and exit code 2, Ctrl-C into 130."""
    try:
        yield
    except UserError as error:
        for line in message_of(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
