"""Check of a configuration against its JSON Schema: keys, types and bounds, without torch.

The schema is `conf/schema/config.json`, written by `action=schema`. It uses three keywords of our
own: `part` marks a mapping with a `_target_`, and lists the arguments that `build.py` adds;
`expected` describes the allowed values for messages; `ascending` requires sorted numbers in a list.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend

from parcnet_train.config.bounded import REFUSED
from parcnet_train.config.keys import show, value_of
from parcnet_train.config.nearest import nearest
from parcnet_train.config.sections import IMPLIED
from parcnet_train.errors import Fault

Schema = Mapping[str, Any]
FindSchema = Callable[[str], Schema | None]

KEYWORDS = ("_target_", "_partial_", "_convert_", "_recursive_")  # of Hydra's instantiate
NUMBERS = {"integer": "a whole number", "number": "a number"}
WORDS = {2: "two", 3: "three", 4: "four"}


def is_integer(_: Any, value: Any) -> bool:
    """Return whether a value is a whole number; 1.0 and true are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(_: Any, value: Any) -> bool:
    """Return whether a value is a finite number."""
    return is_integer(_, value) or (isinstance(value, float) and math.isfinite(value))


def ascending(_: Any, wanted: bool, values: Any, __: Schema) -> Iterator[ValidationError]:
    """Implement the keyword `ascending`; other keywords report what is not a list of numbers."""
    are_numbers = isinstance(values, list) and all(is_number(_, value) for value in values)
    if wanted and are_numbers and values != sorted(values):
        yield ValidationError("not ascending")


Validator = extend(
    Draft202012Validator,
    validators={"ascending": ascending},
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine_many(
        {"integer": is_integer, "number": is_number}
    ),
)


def fits(value: Any, schema: Schema) -> bool:
    """Return whether a plain value fits a schema."""
    return bool(Validator(schema).is_valid(value))


@functools.cache
def read_schema(path: Path) -> Schema:
    """Read a schema file."""
    found: Schema = json.loads(path.read_text())
    return found


def faults_of(
    config: Mapping[str, Any],
    schema: Schema,
    find: FindSchema,
    borrowed: Collection[str] = (),
) -> Iterator[Fault]:
    """Find unknown and missing keys, and values of a wrong type or range.

    Args:
        config: Plain values.
        schema: Schema of the whole configuration.
        find: Function that returns the schema of a `_target_`; None: its arguments are not checked.
        borrowed: Keys whose faults are reported elsewhere: they interpolate another key, or have no
            value.
    """
    yield from faults_of_mapping("", config, schema, find, borrowed)


def faults_of_mapping(
    prefix: str,
    node: Mapping[str, Any],
    schema: Schema,
    find: FindSchema,
    borrowed: Collection[str],
) -> Iterator[Fault]:
    """Find the faults of a mapping whose keys are listed in its schema."""
    known, more = schema.get("properties", {}), schema.get("additionalProperties", True)
    for name, value in node.items():
        key = f"{prefix}{name}"
        if name in known:
            yield from faults_of_value(key, value, known[name], find, borrowed)
        elif more is False:
            yield Fault(key, f"{key}: there is no such key{nearest(name, list(known))}")
        elif isinstance(more, Mapping):
            yield from faults_of_value(key, value, more, find, borrowed)
    for name in schema.get("required", ()):
        key = f"{prefix}{name}"
        if name not in node and key not in borrowed:
            yield Fault(key, f"{key} is missing; expected {words_of(known[name])}")


def faults_of_value(
    key: str, value: Any, schema: Schema, find: FindSchema, borrowed: Collection[str]
) -> Iterator[Fault]:
    """Find the faults of the value under a key."""
    if key in borrowed:
        return
    if isinstance(value, dict):
        implied = {"_target_": IMPLIED[key]} if key in IMPLIED else {}
        value = {**implied, **value}
        if "_target_" in value:
            yield from faults_of_arguments(key, value, schema, find, borrowed)
            return
        inner = alternatives(schema, "properties") or alternatives(schema, "additionalProperties")
        if inner and not alternatives(schema, "part"):
            yield from faults_of_mapping(f"{key}.", value, inner[0], find, borrowed)
            return
    if alternatives(schema, "part"):
        is_optional = {"type": "null"} in schema.get("anyOf", ())
        if not (is_optional and value is None):
            expected = "null or a mapping" if is_optional else "a mapping"
            yield Fault(key, f"{show(key, value)}: expected {expected} with a _target_")
    elif not fits(value, schema):
        yield Fault(key, f"{show(key, value)}: expected {words_of(schema)}{near(value, schema)}")


def faults_of_arguments(
    key: str,
    node: Mapping[str, Any],
    schema: Schema,
    find: FindSchema,
    borrowed: Collection[str],
) -> Iterator[Fault]:
    """Find arguments of a `_target_` that are unknown, missing or of a wrong type."""
    arguments = find(str(node["_target_"]))
    if arguments is None:
        return
    part = next(iter(alternatives(schema, "part")), {}).get("part", {})
    known = {**arguments["properties"], **part.get("kept", {})}
    takes_any = arguments["additionalProperties"]
    for name, value in node.items():
        argument = f"{key}.{name}"
        if name in KEYWORDS:
            continue
        if argument in REFUSED:
            yield Fault(argument, f"{show(argument, value)}: {REFUSED[argument]}")
            continue
        if name in known:
            yield from faults_of_value(argument, value, known[name], find, borrowed)
            continue
        # Even if every name is accepted, one very similar to a declared name is a misspelling.
        meant = nearest(name, list(known), cutoff=0.8 if takes_any else 0.75)
        if meant or not takes_any:
            yield Fault(argument, f"{argument}: {arguments['title']} has no such argument{meant}")
    for name in arguments["required"]:
        argument = f"{key}.{name}"
        if name not in (*node, *part.get("supplied", ())) and argument not in borrowed:
            yield Fault(argument, f"{argument} is missing; {arguments['title']} requires it")


def alternatives(schema: Schema, keyword: str) -> list[Schema]:
    """Return those of a schema and its alternatives that have a keyword."""
    return [each for each in (schema, *schema.get("anyOf", ())) if keyword in each]


def schema_at(config: Mapping[str, Any], key: str, schema: Schema, find: FindSchema) -> Schema:
    """Return the schema of the value under a dotted key; `{}` if there is none.

    Args:
        config: Plain values; only the `_target_`s of the mappings around the key are read.
        key: Dotted key.
        schema: Schema of the whole configuration.
        find: Function that returns the schema of a `_target_`.
    """
    found: Schema = schema
    names = key.split(".")
    for position, name in enumerate(names):
        around = value_of(config, ".".join(names[:position])) if position else config
        part = next(iter(alternatives(found, "part")), {}).get("part", {})
        target = around.get("_target_") if isinstance(around, dict) else None
        target = target or IMPLIED.get(".".join(names[:position]))
        if target is not None:
            arguments = find(str(target)) or {}
            known = {**arguments.get("properties", {}), **part.get("kept", {})}
            found = known.get(name, {})
            continue
        inner = [*alternatives(found, "properties"), *alternatives(found, "additionalProperties")]
        options = [each.get("properties", {}).get(name) for each in inner]
        more = [each.get("additionalProperties") for each in inner]
        found = next((each for each in (*options, *more) if isinstance(each, Mapping)), {})
    return found


def words_of(schema: Schema) -> str:
    """Return what a schema expects, in words."""
    if "expected" in schema:
        return str(schema["expected"])
    if "part" in schema:
        return "a mapping with a _target_"
    if "anyOf" in schema:
        return words_of_alternatives(schema["anyOf"])
    if options := options_of(schema):
        return "one of " + ", ".join(options) if len(options) > 1 else options[0]
    kind = schema.get("type")
    if kind in NUMBERS:
        return NUMBERS[kind] + bounds_of(schema)
    if kind == "array":
        return words_of_list(schema)
    if kind == "object" and "properties" in schema:
        return "a mapping of " + ", ".join(schema["properties"])
    names = {
        "boolean": "true or false",
        "null": "null",
        "object": "a mapping",
        "string": "a path" if schema.get("format") == "path" else "a string",
    }
    return names.get(str(kind), "a different value")


def words_of_alternatives(schemas: Sequence[Schema]) -> str:
    """Return what alternatives expect, in words: null and fixed words first."""
    options = [word for each in schemas for word in options_of(each)]
    rest = [words_of(each) for each in schemas if not options_of(each)]
    rest.sort(key=lambda words: words != "null")
    words = ["one of " + ", ".join(options)] if len(options) > 1 else options
    is_null = rest[:1] == ["null"]
    return " or ".join([*rest[:is_null], *words, *dict.fromkeys(rest[is_null:])])


def bounds_of(schema: Schema) -> str:
    """Return the bounds of a number, in words that are appended to `a number`."""
    above, least = schema.get("exclusiveMinimum"), schema.get("minimum")
    below, most = schema.get("exclusiveMaximum"), schema.get("maximum")
    ends = ""
    if most is not None:
        ends = f" to {most:g}" if least is not None else f" and up to {most:g}"
    elif below is not None:
        ends = f" to below {below:g}"
    if above is not None:
        return f" above {above:g}{ends}"
    if least is not None:
        return f" from {least:g}{ends}" if ends else f" of at least {least:g}"
    return ends


def words_of_list(schema: Schema) -> str:
    """Return the description of a list and its elements."""
    items = schema.get("prefixItems")
    if items is not None:
        count = WORDS.get(len(items), str(len(items)))
        words = f"a list of {count} values, each {words_of(items[0])}"
    elif schema.get("items"):
        words = f"a list of values, each {words_of(schema['items'])}"
    else:
        words = "a list"
    if schema.get("minItems") and items is None:
        words += ", at least one value"
    if schema.get("uniqueItems"):
        words += ", without duplicates"
    return words + ", in ascending order" * bool(schema.get("ascending"))


def options_of(schema: Schema) -> list[str]:
    """Return the fixed words that a schema accepts."""
    found = [str(each) for each in schema.get("enum", ())]
    found += [str(schema["const"])] if "const" in schema else []
    return found


def near(value: Any, schema: Schema) -> str:
    """Return `; did you mean X?` if the value is probably a misspelling of an accepted word."""
    allowed = [word for each in (schema, *schema.get("anyOf", ())) for word in options_of(each)]
    return nearest(str(value), allowed) if isinstance(value, str) else ""
