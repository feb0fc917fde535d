"""Environment of a run: package versions and hardware."""

from __future__ import annotations

import contextlib
import os
import platform
import socket
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from packaging.requirements import Requirement

PACKAGE = "parcnet-train"
DEVELOPMENT = {"dev", "docs"}  # extras with the tools of developers


def packages() -> dict[str, str]:
    """Return the versions of this package and of its installed dependencies."""
    versions = {}
    for name in sorted({PACKAGE, *dependencies()}):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    if torch.version.cuda is not None:
        versions["cuda"] = torch.version.cuda
        versions["cudnn"] = str(torch.backends.cudnn.version())  # type: ignore[no-untyped-call]
    return versions


def dependencies() -> Iterator[str]:
    """Yield the names of all dependencies in pyproject.toml, except tools of developers."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        about = metadata.metadata(PACKAGE)
        extras = {"", *about.get_all("Provides-Extra", ())} - DEVELOPMENT
        for requirement in map(Requirement, about.get_all("Requires-Dist", ())):
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": each}) for each in extras):
                yield requirement.name


def python_version() -> str:
    """Return the version of the interpreter, such as `3.12.4`."""
    return platform.python_version()


def hardware() -> dict[str, Any]:
    """Describe this machine: processor, memory in GiB, and the GPUs that PyTorch finds."""
    return {
        "host": socket.gethostname(),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": memory(),
        "gpus": [torch.cuda.get_device_name(each) for each in range(torch.cuda.device_count())],
    }


def cpu_model() -> str:
    """Return the name of the processor, as the system reports it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "Hardware")):  # x86, ARM
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def memory() -> float | None:
    """Return the memory of the machine in GiB, None if the system does not report it."""
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
    return round(size / 2**30, 1)
