"""Classes and functions that configurations name under `_target_`."""

from __future__ import annotations

import inspect
import pydoc
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

PACKAGE = __name__.partition(".")[0]


def locate(node: Mapping[str, Any]) -> Any:
    """Return the class or function of a `_target_`; None if there is none."""
    try:
        target = pydoc.locate(str(node.get("_target_")))
    except pydoc.ErrorDuringImport:
        return None
    return target if callable(target) else None


def named_targets(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield every name in a configuration that instantiation would call, after its dotted key.

    Args:
        node: Value of a configuration.
        key: Its dotted key.
    """
    if isinstance(node, Mapping):
        for name, value in node.items():
            if name == "_target_":
                yield key, str(value)
            else:
                yield from named_targets(value, f"{key}.{name}")
    elif isinstance(node, list | tuple):
        for value in node:
            yield from named_targets(value, f"{key}.")
    elif isinstance(node, str) and "${" in node:
        yield key, node  # ours are resolved; an interpolation can produce anything, even a target


# Where the classes are defined that a stored configuration may name: for the part of the
# configuration itself, and for its arguments. Constructors elsewhere may start processes or write
# files, and the values of the arguments come from the file.
NETWORK = ("models",)
TRANSFORMS = tuple(
    f"data.{task}.transforms" for task in ("classification", "detection", "segmentation")
)
SETTINGS = (*TRANSFORMS, "data.samplers", "optim", "callbacks.averaging")
MAY_BE: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "backbone": (NETWORK, NETWORK),
    "head": (NETWORK, NETWORK),
    "data": (("data",), SETTINGS),
    "task": (("tasks",), ()),
    "recipe": ((), SETTINGS),
}


def may_be(key: str, target: str, packages: Sequence[str] = (PACKAGE,)) -> bool:
    """Return whether a part of a stored configuration, which is not trusted, may name a target.

    Names in a module may also refer to its imports, such as `parcnet_train.build.torch`; only
    classes that a module defines itself count.

    Args:
        key: Dotted key of the `_target_`'s mapping: a part, such as `head`, or one of its
            arguments, such as `head.norm`.
        target: Dotted name.
        packages: Packages whose modules a network may consist of.
    """
    part, _, argument = key.partition(".")
    package = target.partition(".")[0]
    itself, arguments = MAY_BE.get(part, ((), ()))
    is_network = itself == NETWORK
    if package == PACKAGE:
        places = [f"{PACKAGE}.{place}." for place in (arguments if argument else itself)]
    else:
        places = [f"{package}."] if is_network and package in packages else []
    if not target.startswith(tuple(places)):  # before anything is imported
        return False
    found = locate({"_target_": target})
    if not inspect.isclass(found) or not f"{found.__module__}.".startswith(tuple(places)):
        return False
    return issubclass(found, object if argument and not is_network else kind_of(part))


def kind_of(part: str) -> type:
    """Return what a part of a configuration is a subclass of: `backbone`, `head`, `data`, `task`.

    All classes that a network names are modules.
    """
    from pytorch_lightning import LightningDataModule, LightningModule  # composing needs no torch
    from torch import nn

    return {"data": LightningDataModule, "task": LightningModule}.get(part, nn.Module)
