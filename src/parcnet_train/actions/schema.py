"""`action=schema`: JSON Schemas of every group and of a whole configuration, and the reference."""

from __future__ import annotations

import json
from pathlib import Path

from parcnet_train.actions.results import Results, about
from parcnet_train.build import Config
from parcnet_train.config.compose import CONF
from parcnet_train.config.group_schemas import schemas_of
from parcnet_train.config.reference import reference_of
from parcnet_train.config.sections import Paths
from parcnet_train.config.typed import section
from parcnet_train.files import write_whole
from parcnet_train.runs.directories import write_results


def schema(config: Config) -> Results:
    """Write the schemas into `schema/` of the run directory, and `configuration.md` beside it.

    `conf/schema/` and `docs/` hold them as they are shipped: `make schema` renews them.

    Args:
        config: The whole configuration as plain values.

    Returns:
        What `results.json` holds.
    """
    output = Path(section(Paths, config).output)
    folder = output / "schema"
    folder.mkdir(parents=True, exist_ok=True)
    schemas = schemas_of(CONF)
    for name, content in schemas.items():
        text = json.dumps(content, indent=1) + "\n"
        write_whole(folder / f"{name}.json", text.encode())
    reference = output / "configuration.md"
    write_whole(reference, reference_of(CONF, schemas["config"]).encode())
    results = {
        **about(config),
        "schema/folder": str(folder),
        "schema/files": list(schemas),
        "schema/reference": str(reference),
    }
    write_results(output, results)
    print(f"{folder}: {len(schemas)} schemas")
    print(reference)
    return results
