"""Import of the optional packages of other runtimes."""

from __future__ import annotations

import importlib
from typing import Any

from parcnet_train.errors import ConfigError


def needed(package: str, extra: str) -> Any:
    """Import an optional package.

    Args:
        package: Import name of the package.
        extra: Extra of parcnet-train that installs it.

    Raises:
        ConfigError: If it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ConfigError(
            f"{package} is not installed. Fix: pip install 'parcnet-train[{extra}]'"
        ) from error
