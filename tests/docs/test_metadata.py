"""Files around the documentation: citation, changelog, workflows."""

import re
import tomllib

import yaml

from documentation import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}  # keepachangelog.com


def test_citation_has_the_version_and_license_of_the_package():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert (citation["title"], citation["version"]) == (PROJECT["name"], PROJECT["version"])
    assert citation["license"] == PROJECT["license"]
    assert {"message", "authors"} <= citation.keys()


def test_changelog_has_the_form_of_keep_a_changelog():
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    versions = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert versions[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[[\d.]+\] - \d{4}-\d\d-\d\d", each) for each in versions[1:])
    assert {*re.findall(r"^### (.*)$", text, re.MULTILINE)} <= KINDS


def test_table_of_extras_has_all_of_them():
    text = (ROOT / "docs" / "start" / "install.md").read_text("utf-8")
    table = text.partition("| extra | for |")[2].partition("\n\n")[0]
    cells = [line.split("|")[1] for line in table.splitlines()[2:]]
    assert set(re.findall("`([a-z0-9]+)`", "".join(cells))) == {*PROJECT["optional-dependencies"]}


def test_workflows_run_the_commands_of_the_makefile():
    (file,) = (ROOT / ".github" / "workflows").glob("*.yaml")
    jobs = yaml.safe_load(file.read_text("utf-8"))["jobs"]
    commands = {step["run"] for job in jobs.values() for step in job["steps"] if "run" in step}
    assert commands == {"make test", "make check", "make docs"}
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert {command.removeprefix("make ") for command in commands} <= {*targets}
