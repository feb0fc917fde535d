"""`action=schema`: the files that it writes."""

import json

import pytest

from running import run


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    output = tmp_path_factory.mktemp("schema")
    return output / "schema", run(["action=schema"], output)


def test_every_group_has_a_schema(written):
    folder, results = written
    assert results["schema/folder"] == str(folder)
    names = {file.stem for file in folder.iterdir()}
    assert all(json.loads(file.read_text())["properties"] for file in folder.iterdir())
    assert names == set(results["schema/files"]) >= {"config", "backbone", "recipe"}
