"""Classes and functions that configurations name under `_target_`."""

from __future__ import annotations

import inspect
import pydoc
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def locate(node: Mapping[str, Any]) -> Any:
    """Return the class or function of a `_target_`; None if there is none."""
    try:
        target = pydoc.locate(str(node.get("_target_")))
    except pydoc.ErrorDuringImport:
        return None
    return target if callable(target) else None


def named_targets(node: Any) -> Iterator[str]:
    """Yield every name in a part of a checkpoint's configuration that instantiation would call."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == "_target_":
                yield str(value)
            else:
                yield from named_targets(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from named_targets(value)
    elif isinstance(node, str) and "${" in node:
        yield node  # ours are resolved; an interpolation can produce anything, even a target


def is_class_of(target: str, packages: Sequence[str]) -> bool:
    """Return whether a name refers to a class that one of the packages defines itself.

    Names in their modules may also refer to imports, such as `parcnet_train.build.torch`.
    """
    if target.split(".")[0] not in packages:
        return False
    found = locate({"_target_": target})
    return inspect.isclass(found) and found.__module__.split(".")[0] in packages
