"""JSON Schemas, made from the annotations and docstrings of constructors and sections.

`action=schema` writes them to files, which configurations are checked against without importing
what they name (`config/schema.py`). For a class that the files do not have, such as a user's own,
one is made when it is needed.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Unpack

from pydantic import PydanticUserError, TypeAdapter
from typing_extensions import is_typeddict

from parcnet_train.config.action_sections import Report
from parcnet_train.config.bounded import BOUNDED
from parcnet_train.config.sections import Config

Schema = dict[str, Any]

UNNAMED = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
SECTIONS = (Config.__module__, Report.__module__)  # modules of their classes
PLAIN = (bool, int, float, str, Path, dict, list, types.NoneType)
ENTRY = re.compile(r"^    {0,4}\*{0,2}(\w+): (.*)$")  # of a docstring's Args or Attributes


def schema_of(target: Any, name: str) -> Schema:
    """Return the JSON Schema of a constructor's arguments.

    Args:
        target: Class or function.
        name: Its dotted name.

    Returns:
        Schema of an object. `additionalProperties` says whether it accepts any argument.
    """
    texts = descriptions_of(target)
    properties: dict[str, Schema] = {}
    required = []
    parameters = parameters_of(target)
    for argument, parameter in parameters.items():
        if parameter.kind in UNNAMED:
            continue
        properties[argument] = schema_of_type(parameter.annotation, texts.get(argument))
        if parameter.default is inspect.Parameter.empty:
            required.append(argument)
        properties[argument] |= default_of(parameter.default)
    if bounded := BOUNDED.get(name):
        section = schema_of_section(bounded)
        properties |= section["properties"]
        required += section["required"]
    takes_any = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values())
    return {
        "type": "object",
        "title": target.__name__,
        "properties": properties,
        "required": required,
        "additionalProperties": takes_any,
    }


def schema_of_section(section: type = Config) -> Schema:
    """Return the JSON Schema of a section, or of a dataclass of `config/bounded.py`."""
    hints = typing.get_type_hints(section, include_extras=True)
    texts = descriptions_of(section)
    defaults = {each.name: each.default for each in fields(section)}
    return {
        "type": "object",
        "properties": {
            name: schema_of_type(hint, texts[name]) | default_of(defaults[name])
            for name, hint in hints.items()
        },
        "required": [name for name, value in defaults.items() if value is MISSING],
        "additionalProperties": False,
    }


def default_of(value: Any) -> Schema:
    """Return the keyword `default` for a default that JSON can write; nothing for any other."""
    values = value if isinstance(value, tuple) else (value,)
    if not all(each is None or isinstance(each, bool | int | float | str) for each in values):
        return {}
    return {"default": list(value) if isinstance(value, tuple) else value}


def schema_of_type(hint: Any, description: str | None = None) -> Schema:
    """Return the JSON Schema of an annotation; `{}` accepts every value.

    Args:
        hint: The annotation. A type without plain values accepts everything; in a union it is left
            out.
        description: Description for users, shown by editors.
    """
    try:
        schema = inlined(TypeAdapter(plain(hint)).json_schema())
    except PydanticUserError:
        schema = {}
    return schema | ({"description": description} if description else {})


def plain(hint: Any) -> Any:
    """Remove types from an annotation that no plain value can represent."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        base, *metadata = arguments
        return Annotated[plain(base), *metadata]
    if origin in (typing.Union, types.UnionType):
        members = [plain(each) for each in arguments if is_plain(each)]
        return typing.Union[tuple(members)] if members else Any  # noqa: UP007  at run time
    if origin in (list, tuple, Sequence, Mapping, dict):
        kind = list if origin is Sequence else dict if origin is Mapping else origin
        return kind[tuple(each if each is ... else plain(each) for each in arguments)]
    return hint if is_plain(hint) else Any


def is_plain(hint: Any) -> bool:
    """Return whether plain values, or lists and mappings of them, can represent a type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return is_plain(arguments[0])
    if origin in (Literal, list, tuple, Sequence, Mapping, dict):
        return True
    if origin in (typing.Union, types.UnionType):
        return any(map(is_plain, arguments))
    return hint in PLAIN or hint is None or is_typeddict(hint) or is_section(hint)


def is_section(hint: Any) -> bool:
    """Return whether a type is a dataclass of one of the modules `sections`."""
    return is_dataclass(hint) and getattr(hint, "__module__", None) in SECTIONS


def inlined(schema: Schema) -> Schema:
    """Inline the definitions of a JSON Schema, close and describe its mappings, remove titles."""
    definitions = schema.pop("$defs", {})

    def walk(node: Any) -> Any:
        if isinstance(node, list):
            return [walk(each) for each in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return walk(definitions[node["$ref"].rpartition("/")[2]])
        found: Schema = {}
        for key, value in node.items():
            if key == "title":
                continue
            if key == "properties":
                found[key] = {name: walk(inner) for name, inner in value.items()}
            elif key == "anyOf":
                found[key] = walk(in_order(value))
            else:
                found[key] = value if key == "part" else walk(value)
        if "properties" in found:
            docstring = node.get("description", "")
            for name, text in entries_in(docstring).items():
                found["properties"].get(name, {})["description"] = text
            if docstring:
                found["description"] = " ".join(docstring.split("\n\n")[0].split())
            found["additionalProperties"] = False
            found["required"] = list(found.get("required", []))
        return found

    return typing.cast(Schema, walk(schema))


def in_order(options: list[Schema]) -> list[Schema]:
    """Return alternatives with integers before numbers.

    Python gives `float | int | None` the order in which any module wrote it first, so that it would
    depend on what has been imported.
    """
    pair: list[Schema] = [{"type": "integer"}, {"type": "number"}]
    places = [place for place, each in enumerate(options) if each in pair]
    if len(places) < len(pair):
        return options
    found = list(options)
    for place, each in zip(places, pair, strict=True):
        found[place] = each
    return found


def parameters_of(target: Any) -> dict[str, inspect.Parameter]:
    """Return the parameters of a callable with evaluated annotations, `Any` where there is none.

    A `**shared: Unpack[SomeTypedDict]` stands for the parameters of the base class's constructor
    with the names of that dictionary.
    """
    hints = hints_of(target)
    found: dict[str, inspect.Parameter] = {}
    for name, parameter in inspect.signature(target).parameters.items():
        hint = hints.get(name, Any)
        if typing.get_origin(hint) is Unpack:
            (shared,) = typing.get_args(hint)
            _, base, *_ = [each for each in inspect.getmro(target) if "__init__" in vars(each)]
            of_base = parameters_of(base)
            found |= {each: of_base[each] for each in typing.get_type_hints(shared)}
        else:
            found[name] = parameter.replace(annotation=hint)
    return found


def hints_of(target: Any) -> dict[str, Any]:
    """Return the types of a callable's arguments; none if they cannot be read."""
    function = target.__init__ if inspect.isclass(target) else target
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError):
        return {}


def descriptions_of(target: Any) -> dict[str, str]:
    """Return the texts of `Args:` or `Attributes:` by name, base classes included."""
    bases = reversed(inspect.getmro(target)) if inspect.isclass(target) else [target]
    texts: dict[str, str] = {}
    for base in bases:
        texts |= entries_in(base.__doc__ or "")
    return texts


def entries_in(docstring: str) -> dict[str, str]:
    """Return the texts of `Args:` or `Attributes:` by name."""
    texts: dict[str, str] = {}
    name = None
    for line in inspect.cleandoc(docstring).splitlines():
        if match := ENTRY.match(line):
            name = match[1]
            texts[name] = match[2]
        elif name and line.startswith("        "):
            texts[name] += f" {line.strip()}"
        else:
            name = None
    return texts
