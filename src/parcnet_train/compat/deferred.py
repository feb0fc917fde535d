"""Defer imports of other packages that take long and that most processes never use.

Some modules import a slow package for a single name, which they use in rare cases: two modules of
torchvision and three of Lightning need `torch._dynamo` for compiled modules, torchmetrics
adds a name to `scipy.signal` for one audio metric, and one transform of albumentations computes
with `scipy.special`. Each of them gets a stand-in, which imports the package when the name is
called. This is written by hand since `importlib.util.LazyLoader` cannot defer `from package import
name`.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

DYNAMO = ("torch._dynamo", "torch._dynamo.utils")
# Modules that are executed with stand-ins, and the modules that they stand in for.
DEFERRED: Mapping[str, Sequence[str]] = {
    "torchvision.ops.roi_align": DYNAMO,
    "torchvision.tv_tensors": DYNAMO,
    "lightning_fabric.wrappers": DYNAMO,
    "pytorch_lightning.utilities.compile": DYNAMO,
    "pytorch_lightning.trainer.connectors.logger_connector.result": DYNAMO,
    "torchmetrics": ("scipy.signal",),
    "albumentations.augmentations.pixel.transforms": ("scipy.special",),
}


def imported(name: str) -> ModuleType | None:
    """Return a module that has been imported; None if it has not, or has only a stand-in."""
    module = sys.modules.get(name)
    return None if isinstance(module, StandIn) else module


def import_real(name: str) -> ModuleType:
    """Import a module in the place of its stand-in."""
    for each in [each for each, module in sys.modules.items() if isinstance(module, StandIn)]:
        del sys.modules[each]
    return importlib.import_module(name)


class DeferredName:
    """A name of a module that is imported when this object is called or its attributes are used.

    Args:
        module: Name of the module.
        name: Name in the module.
    """

    def __init__(self, module: str, name: str) -> None:
        vars(self).update(module=module, name=name)

    def real(self) -> Any:
        """Import the module, and return what has this name there."""
        return getattr(import_real(self.module), self.name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it."""
        return self.real()(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked for by Python itself, such as by `functools.wraps`
            raise AttributeError(name)
        return getattr(self.real(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.real(), name, value)

    def __instancecheck__(self, instance: object) -> bool:
        """Return whether an object is of this class; of a module not yet imported, none is."""
        module = imported(self.module)
        return module is not None and isinstance(instance, getattr(module, self.name))


def disable(
    function: Callable[..., Any], recursive: bool = True, **options: Any
) -> Callable[..., Any]:
    """Decorate a function as `torch._dynamo.disable` does, which compiled code then leaves alone.

    Without `torch._dynamo` there is no compiled code, and the function is called as it is.

    Args:
        function: Function to decorate.
        recursive: Whether the functions that it calls are left alone, too.
        options: Further options of that decorator.
    """
    decorated: Callable[..., Any] | None = None

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal decorated
        if decorated is None:
            module = imported(DYNAMO[0])
            if module is None:
                return function(*args, **kwargs)
            decorated = module.disable(function, recursive, **options)
        return decorated(*args, **kwargs)

    return call


class StandIn(ModuleType):
    """A module whose every name is deferred."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__ = []  # a package, so that `DeferImports` is asked for its submodules

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if (self.__name__, name) == (DYNAMO[0], "disable"):  # called when a class is defined
            return disable
        return DeferredName(self.__name__, name)


class WithStandIns(Loader):
    """Loader of a module, which finds stand-ins for some modules while it is executed.

    Args:
        loader: Loader of the module.
        names: Names of the modules to stand in for.
    """

    def __init__(self, loader: Loader, names: Sequence[str]) -> None:
        self.loader = loader
        self.names = names

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Create the module as its own loader does."""
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Execute the module."""
        with stand_ins(self.names):
            self.loader.exec_module(module)


class Imported(Loader):
    """Loader of a module that exists already, which stays as it is.

    Args:
        module: The module.
    """

    def __init__(self, module: ModuleType) -> None:
        self.module = module
        self.spec = module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module."""
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        """Restore what Python has changed on the way here."""
        module.__spec__ = self.spec


class DeferImports(MetaPathFinder):
    """Import hook that finds the modules of `DEFERRED`, and the submodules of a stand-in."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module; Python's import system calls this for every module."""
        parent = name.rpartition(".")[0]
        if isinstance(sys.modules.get(parent), StandIn):
            import_real(parent)
            return ModuleSpec(name, Imported(importlib.import_module(name)))
        if name not in DEFERRED:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = WithStandIns(spec.loader, DEFERRED[name])
        return spec


@contextmanager
def stand_ins(names: Sequence[str]) -> Iterator[None]:
    """Put stand-ins in the place of modules that are not imported yet; remove them at the end."""
    ours = {name: StandIn(name) for name in names if name not in sys.modules}
    sys.modules.update(ours)
    try:
        yield
    finally:
        for name, stand_in in ours.items():
            if sys.modules.get(name) is stand_in:
                del sys.modules[name]
