"""Dotted keys of nested configurations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MISSING: Any = object()  # in place of a value that is not there


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested mappings by dotted key."""
    leaves = {}
    for name, value in config.items():
        key = f"{prefix}{name}"
        leaves.update(flatten(value, f"{key}.") if isinstance(value, Mapping) else {key: value})
    return leaves


def show(key: str, value: Any) -> str:
    """Return key and value as they are typed on a command line."""
    named = {None: "null", True: "true", False: "false"}
    is_named = value is None or isinstance(value, bool)
    return f"{key}={named[value] if is_named else str(value).replace(' ', '')}"


def value_of(config: Mapping[str, Any], key: str) -> Any:
    """Return the value under a dotted key; `MISSING` if there is none."""
    value: Any = config
    for name in key.split("."):
        value = value.get(name, MISSING) if isinstance(value, dict) else MISSING
    return value
