"""Files of docker/, as far as they can be checked without a container engine."""

import re
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()
INSTRUCTIONS = re.sub(r"\\\n", " ", re.sub(r"(?m)^#.*\n", "", DOCKERFILE)).splitlines()


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())


def copied():
    """Return the paths of the build context that COPY copies."""
    lines = [line.split() for line in INSTRUCTIONS if line.startswith("COPY ")]
    return [path for line in lines if "--from" not in line[1] for path in line[1:-1]]


def test_copied_paths_exist_and_are_not_ignored():
    assert {"pyproject.toml", "constraints.txt", "src", "conf", "Makefile"} <= set(copied())
    ignore = (ROOT / ".dockerignore").read_text().split("\n")
    assert "*" in ignore  # everything except the following: no runs, no data, no keys
    allowed = {line[1:] for line in ignore if line.startswith("!")}
    assert allowed == set(copied())
    assert all((ROOT / path).exists() for path in copied())
    # A build of the package needs the files that pyproject.toml names.
    project = (ROOT / "pyproject.toml").read_text()
    for name in re.findall(r'^readme = "(.+)"|^license-files = \["(.+)"\]', project, re.MULTILINE):
        assert "".join(name) in allowed


def test_image_is_installed_by_the_makefile():
    (install,) = [line for line in INSTRUCTIONS if line.startswith("RUN case")]
    assert install.endswith("&& make install")
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"^install: .venv/.installed$", makefile, re.MULTILINE)
    assert re.search(
        r"^INSTALL := .* --constraint constraints.txt --editable$", makefile, re.MULTILINE
    )
    assert "$(INSTALL) .\n" in makefile
    assert not any("install-dev" in line or "[dev]" in line for line in INSTRUCTIONS)
    # Dependencies are installed before the source, which changes more often.
    assert INSTRUCTIONS.index(install) < INSTRUCTIONS.index("COPY src /app/src")


def test_versions_are_pinned_and_supported():
    (version,) = re.findall(r"^ARG PYTHON_VERSION=(.+)$", DOCKERFILE, re.MULTILINE)
    (allowed,) = re.findall(
        r'^requires-python = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE
    )
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert version in SpecifierSet(allowed)
    bases = [line for line in INSTRUCTIONS if line.startswith("FROM ")]
    assert all("python:${PYTHON_VERSION}-slim-bookworm" in line for line in bases)
    for line in INSTRUCTIONS:
        for package in re.findall(r"apt-get install --yes --no-install-recommends ([^&]+)", line):
            assert all("=" in each for each in package.split())


def test_container_does_not_run_as_root():
    users = [line for line in INSTRUCTIONS if line.startswith("USER ")]
    assert users == ["USER ${UID}:${GID}"]
    assert "ARG UID=1000" in INSTRUCTIONS
    assert INSTRUCTIONS.index(users[0]) < next(
        number for number, line in enumerate(INSTRUCTIONS) if line.startswith("ENTRYPOINT")
    )


def test_compose_mounts_data_read_only_and_has_shared_memory(compose):
    for service in compose["services"].values():
        mounts = {each["target"]: each for each in service["volumes"]}
        assert mounts["/data"]["read_only"] is True
        assert "read_only" not in mounts["/workspace/runs"]
        assert mounts["/home/parcnet/.cache"]["source"] in compose["volumes"]
        assert service["shm_size"] == "${SHM:-16gb}"
        assert (ROOT / "docker" / service["build"]["context"]).resolve() == ROOT
        assert (ROOT / service["build"]["dockerfile"]).is_file()
        arguments = {line.split()[1].split("=")[0] for line in INSTRUCTIONS if line[:4] == "ARG "}
        assert set(service["build"]["args"]) <= arguments


def test_compose_uses_gpus_in_only_one_service(compose):
    (device,) = compose["services"]["gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    assert "deploy" not in compose["services"]["cpu"]
    devices = {name: each["build"]["args"]["DEVICE"] for name, each in compose["services"].items()}
    assert devices == {"gpu": "cuda", "cpu": "cpu"}


def test_named_configs_exist(compose):
    text = (ROOT / "docs" / "guides" / "docker.md").read_text()
    words = [word for each in compose["services"].values() for word in each["command"]]
    words += re.findall(r"(?:trainer|data|backbone)=\w+", text)
    for group, choice in (word.split("=") for word in words if "." not in word):
        assert (ROOT / "conf" / group / f"{choice}.yaml").is_file(), (group, choice)
