"""JSON Schemas that `action=schema` writes: for a whole configuration and for config files.

A config file of a group may be incomplete, contain interpolations, and name a class of the user;
otherwise, its schema is that of a whole configuration. Editors find a file's schema by its comment
`# yaml-language-server: $schema=...`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from parcnet_train.config.generate import Schema, schema_of, schema_of_section
from parcnet_train.config.sections import IMPLIED
from parcnet_train.targets import locate

DIALECT = "https://json-schema.org/draft/2020-12/schema"
GLOBAL = "global"  # schema of files whose package is the whole configuration
# Groups whose files fill the section of their name.
GROUPS = ("backbone", "callbacks", "data", "head", "logger", "recipe", "trainer")
INTERPOLATION = {"type": "string", "pattern": r"\$\{|^\?\?\?$"}
OF_FILES: Schema = {
    "defaults": {"type": "array", "description": "Files that this one is composed of, in order."},
    "hydra": {"type": "object", "description": "Settings of Hydra itself."},
}


def schemas_of(conf: Path) -> dict[str, Schema]:
    """Return all schemas by name.

    Args:
        conf: Folder of the configs, whose `_target_`s are looked up.
    """
    used = targets_in(conf)
    names = sorted({name for names in used.values() for name in names})
    definitions = {name: schema_of(locate({"_target_": name}), name) for name in names}
    whole = {"$schema": DIALECT, **schema_of_section(), "$defs": definitions}
    parts = {key: [definitions[name] for name in sorted(each)] for key, each in used.items()}
    known = {key: sorted(each) for key, each in used.items()}
    relaxed = relax("", whole, parts, known)
    files = {GLOBAL: relaxed} | {group: relaxed["properties"][group] for group in GROUPS}
    return {
        "config": whole,
        **{name: {"$schema": DIALECT, **of_file(schema)} for name, schema in files.items()},
    }


def of_file(schema: Schema) -> Schema:
    """Return the schema of a file, given that of its section."""
    first = next((each for each in schema.get("anyOf", ()) if "type" in each), schema)
    return {**first, "properties": {**first.get("properties", {}), **OF_FILES}}


def targets_in(conf: Path) -> dict[str, set[str]]:
    """Return the `_target_`s of all configs by the dotted key of their mapping."""
    found: dict[str, set[str]] = {key: {name} for key, name in IMPLIED.items()}
    for file in sorted(conf.rglob("*.yaml")):
        text = file.read_text(encoding="utf-8")
        group = file.relative_to(conf).parts[0]
        prefix = "" if "@package _global_" in text or file.parent == conf else f"{group}."
        for key, name in targets_of(OmegaConf.to_container(OmegaConf.create(text)), prefix):
            found.setdefault(key, set()).add(name)
    return found


def targets_of(node: Any, prefix: str) -> Iterator[tuple[str, str]]:
    """Yield the `_target_`s of a mapping, each with its dotted key."""
    for name, value in node.items() if isinstance(node, Mapping) else ():
        if name == "_target_":
            yield prefix.removesuffix("."), value
        else:
            yield from targets_of(value, f"{prefix}{name}.")


def relax(
    key: str,
    schema: Schema,
    parts: Mapping[str, list[Schema]],
    known: Mapping[str, list[str]],
) -> Schema:
    """Return the schema of the values that a file may have under a dotted key."""
    if "anyOf" in schema:
        options = [relax(key, each, parts, known) for each in schema["anyOf"]]
        return {**schema, "anyOf": [*options, INTERPOLATION]}
    if "part" in schema:
        return union(key, schema, parts, known)
    if "properties" not in schema and not isinstance(schema.get("additionalProperties"), dict):
        texts = {name: schema[name] for name in ("description",) if name in schema}
        return {**texts, "anyOf": [schema, INTERPOLATION]} if schema else {}
    inner = f"{key}." if key else ""
    properties = {
        name: relax(f"{inner}{name}", each, parts, known)
        for name, each in schema.get("properties", {}).items()
    }
    each_of = schema.get("additionalProperties")
    if isinstance(each_of, dict):  # loggers and callbacks by name
        named = [part for part in parts if part.rpartition(".")[0] == key]
        others = [each for each in each_of.get("anyOf", ()) if "part" not in each]
        properties |= {
            part.removeprefix(inner): {"anyOf": [union(part, {}, parts, known), *others]}
            for part in named
        }
    kept = {name: each for name, each in schema.items() if name not in ("required", "$defs")}
    return {**kept, "properties": properties}


def union(
    key: str,
    schema: Schema,
    parts: Mapping[str, list[Schema]],
    known: Mapping[str, list[str]],
) -> Schema:
    """Return the schema of a mapping with a `_target_`: the arguments of all known ones.

    A file may leave the `_target_` to another one, or name a class of its own.
    """
    options: dict[str, list[Schema]] = {}
    for part in parts.get(key, ()):
        for name, each in part["properties"].items():
            if each not in options.setdefault(name, []):
                options[name].append(each)
    kept = schema.get("part", {}).get("kept", {})
    properties = {
        name: relax(f"{key}.{name}", each[0], parts, known)
        if len(each) == 1
        else {"anyOf": [*(relax(f"{key}.{name}", one, parts, known) for one in each)]}
        for name, each in {**options, **{name: [each] for name, each in kept.items()}}.items()
    }
    closed = not any(each["additionalProperties"] for each in parts.get(key, ()))
    own = {
        "properties": {"_target_": {"type": "string", "not": {"enum": known.get(key, [])}}},
        "required": ["_target_"],
    }
    texts = {name: schema[name] for name in ("description",) if name in schema}
    names = {**properties, "_target_": {"type": "string"}, "_partial_": {"type": "boolean"}}
    ours: Schema = {"properties": names}
    if closed:
        ours["propertyNames"] = {"enum": [*names, *OF_FILES]}
    return {**texts, "type": "object", "if": own, "then": {}, "else": ours}
