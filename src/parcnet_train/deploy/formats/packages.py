"""Packages of other runtimes, which are optional."""

from __future__ import annotations

import importlib
from typing import Any

from parcnet_train.errors import ConfigError


def needed(package: str, extra: str) -> Any:
    """Imports a package.

    Args:
        package: as it is imported.
        extra: of this package that installs it.

    Raises:
        ConfigError: where it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ConfigError(
            f"{package} is not installed: pip install 'parcnet-train[{extra}]'"
        ) from error
