"""From the plain values of a checked configuration to the objects of the modules `sections`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any, TypeVar, get_args, get_type_hints

from parcnet_train.runs.actions import action_of
from parcnet_train.runs.directories import RunSpec

Section = TypeVar("Section")


def section(kind: type[Section], config: Mapping[str, Any]) -> Section:
    """Return a section of a checked configuration as an object; it is not checked again.

    Args:
        kind: Class of the section, whose name in lower case is its key.
        config: Whole configuration as plain values, or the section that contains this one.
    """
    return filled(kind, config[kind.__name__.lower()])


def filled(kind: type[Section], values: Mapping[str, Any]) -> Section:
    """Return an object of a class of this module, with the objects in it, from plain values."""
    make: Any = kind
    hints = get_type_hints(kind).items()
    return make(**{name: converted(hint, values[name]) for name, hint in hints if name in values})


def converted(hint: Any, value: Any) -> Any:
    """Return a value; a mapping becomes an object if its type is a class of this module."""
    if isinstance(value, Mapping):
        for each in (hint, *get_args(hint)):
            if is_dataclass(each):
                return filled(each, value)  # type: ignore[arg-type]
    return value


def run_spec(config: Mapping[str, Any]) -> RunSpec:
    """Return the values of a whole configuration that name its run and its checkpoint."""
    choices = config["choices"]
    return RunSpec(
        config["action"],
        config["ckpt"],
        config["paths"]["runs"],
        choices["task"],
        choices["backbone"],
        choices["data"],
        config.get("overrides", ()),
    )


def reads_data(config: Mapping[str, Any]) -> bool:
    """Return whether a run of a whole configuration reads its data; the action may be invalid."""
    action = action_of(config.get("action"))
    if action is None:
        return True
    values = config.get(action.section or "")
    return action.reads_data(values if isinstance(values, Mapping) else None)
