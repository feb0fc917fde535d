"""What describes a checkpoint in a release; that of an earlier release is not trusted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema

from parcnet_train.errors import CheckpointError
from parcnet_train.files import finite

Schema = dict[str, Any]


def maybe(kind: str, **more: Any) -> Schema:
    """Return the schema of a value of a type, or null."""
    return {"type": [kind, "null"], **more}


def mapping(*needed: str, **properties: Schema) -> Schema:
    """Return the schema of an object, or null, that has some properties."""
    return maybe("object", properties=properties, required=list(needed))


TEXT: Schema = {"type": "string"}
COUNT = maybe("integer", minimum=0)
SIZE = maybe("array", items={"type": "integer", "minimum": 1}, minItems=2, maxItems=2)
METRICS = mapping(
    *("metric", "values", "split"),
    metric=TEXT,
    values={"type": "object", "additionalProperties": {"type": "number"}},
    split={"enum": ["val", "test"]},
    images=COUNT,
    dataset=maybe("string"),
    data=maybe("string"),
    image_size=SIZE,
    evaluated_classes=COUNT,
    scales=maybe("array", items={"type": "number"}),
    mirror=maybe("boolean"),
    epoch=COUNT,
    chosen=maybe("boolean"),
    evaluator=maybe("string"),
)
TRAINED = mapping(
    ended=maybe("string"),
    revision=maybe("string"),
    uncommitted_changes=maybe("boolean"),
    python=maybe("string"),
    packages=maybe("object", additionalProperties=TEXT),
    data=mapping(
        train_images=COUNT,
        val_images=COUNT,
        test_images=COUNT,
        files_sha256=maybe("string"),
        labels_sha256=maybe("string"),
    ),
)
SCHEMA = mapping(
    metrics=METRICS,
    provenance=mapping(trained=TRAINED, released=maybe("object")),
    converted={
        **mapping("from", "file", **{"from": TEXT, "file": TEXT, "entry": maybe("string")}),
        "type": "object",
    },
    averaged={"type": "array", "items": TEXT},
    dataset=maybe("string"),
    distillation=mapping("kind", "teacher", kind=maybe("string"), teacher=maybe("string")),
    ema=maybe("boolean"),
    parcnet_train_version=maybe("string"),
)


def carried(checkpoint: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the entries of a checkpoint that describe it, with all keys, without unknown ones.

    Args:
        checkpoint: Content of the checkpoint, or our section of `config.json`.
        path: Its file, for the message.

    Raises:
        CheckpointError: If an entry has another form than `action=release` writes.
    """
    found = finite({name: checkpoint[name] for name in SCHEMA["properties"] if name in checkpoint})
    fault = jsonschema.Draft202012Validator(SCHEMA).iter_errors(found)
    if error := next(fault, None):
        key = ".".join(map(str, error.absolute_path))
        raise CheckpointError(
            f"ckpt={path}: its {key} is invalid; expected the form that this package writes. Fix: "
            "get the file again from its publisher"
        )
    return {name: known(found[name], SCHEMA["properties"][name]) for name in found}


def known(value: Any, schema: Schema) -> Any:
    """Return a value with exactly the properties of its schema; null for missing ones."""
    if not isinstance(value, Mapping) or "properties" not in schema:
        return value
    return {name: known(value.get(name), each) for name, each in schema["properties"].items()}
