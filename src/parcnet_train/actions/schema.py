"""`action=schema`: the JSON Schemas of every group of `conf/` and of a whole configuration."""

from __future__ import annotations

import json
from pathlib import Path

from parcnet_train.actions.results import Results, about
from parcnet_train.build import Config
from parcnet_train.config.compose import CONF
from parcnet_train.config.group_schemas import schemas_of
from parcnet_train.files import write_whole
from parcnet_train.runs.directories import write_results


def schema(config: Config) -> Results:
    """Write the schemas into `schema/` of the run directory.

    `conf/schema/` holds them as they are shipped: `make schema` renews them.

    Args:
        config: The whole configuration as plain values.

    Returns:
        What `results.json` holds.
    """
    folder = Path(config["paths"]["output"]) / "schema"
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for name, content in schemas_of(CONF).items():
        text = json.dumps(content, indent=1) + "\n"
        write_whole(folder / f"{name}.json", text.encode())
        names.append(name)
    results = {**about(config), "schema/folder": str(folder), "schema/files": names}
    write_results(Path(config["paths"]["output"]), results)
    print(f"{folder}: {len(names)} schemas")
    return results
