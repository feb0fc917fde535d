"""Reading of files of torch.export, without executing anything in them.

`torch.export.load` (PyTorch 2.13) unpickles parts of a file, loads shared libraries from it,
evaluates its expressions, and compiles Python code that contains its names. A file is therefore
checked first, and torch gets a copy of what was checked. The text of this module is copied into the
scripts beside exported files, so it must run with Python 3.9 and torch only.
"""

from __future__ import annotations

import ast
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SETTINGS = (  # entries in JSON, from which torch builds the program
    "models/model.json",
    "data/weights/model_weights_config.json",
    "data/constants/model_constants_config.json",
)
DESCRIPTION = "description.json"  # text that `write_program` adds
EXAMPLE = "data/sample_inputs/model.pt"
OTHER_ENTRIES = (
    *("archive_format", "archive_version", "byteorder", ".data/version", ".data/serialization_id"),
    *(EXAMPLE, f"extra/{DESCRIPTION}"),
)
NUMBERS = re.compile(r"data/(weights/weight|constants/tensor)_[0-9]+")  # entries of raw numbers
# Names become Python code, and are looked up as attributes.
NAME = re.compile(r"[A-Za-z0-9_]*")
PART = r"(?!__)[A-Za-z0-9_]*"
DOTTED_NAME = re.compile(rf"{PART}(\.{PART})*")
KEY = re.compile(r"[A-Za-z0-9_.]*")
DOTTED = ("buffer_name", "fqn", "parameter_name", "tensor_constant_name")  # keys of such names
# Keys of texts that are only quoted: arguments of operators, and where a node comes from.
QUOTED = ("as_string", "as_strings", "nn_module_stack", "stack_trace", "torch_fn", "torch_version")
OBJECTS = ("as_custom_obj", "as_operator", "custom_obj")  # keys of what is no tensor and no number
OPERATOR = re.compile(r"torch\.ops\.aten\.([A-Za-z0-9_]+)\.([A-Za-z0-9_]+)")
WITH_FILES = ("from_file", "save")  # the operators that open a file by its name
OTHER_OPERATORS = re.compile(
    r"torch\.ops\.higher_order\.wrap_with_(autocast|set_grad_enabled)"
    r"|_operator\.(add|sub|mul|truediv|floordiv|mod|neg|eq|ne|le|ge|lt|gt|and_|or_)"
    r"|torch\.sym_(float|int|ite|max|min|not)|math\.trunc"
)
# Of expressions of image counts, such as "Mul(Integer(4), Symbol('s34', integer=True))".
SYMBOL = re.compile(r"[a-z]{1,4}[0-9]{1,9}")
FUNCTIONS = (
    *("Integer", "Rational", "Symbol", "Add", "Mul", "Max", "Min", "Mod", "PythonMod"),
    *("FloorDiv", "CleanDiv", "CeilDiv", "ModularIndexing", "Equality", "Unequality"),
    *("GreaterThan", "LessThan", "StrictGreaterThan", "StrictLessThan"),
)
# Other characters, such as line ends, mean something else to SymPy than to Python.
CHARACTERS = re.compile(r"[A-Za-z0-9'(),=+*. -]*")
ARITHMETIC = (  # without powers, whose results can fill the memory
    *(ast.Expression, ast.keyword, ast.Load, ast.UnaryOp, ast.USub),
    *(ast.BinOp, ast.Add, ast.Sub, ast.Mult),
)
CONTAINERS = (None, "builtins.tuple", "builtins.list", "builtins.dict")
ENCRYPTED = 1  # bit of an entry's flags
LONGEST_QUOTE = 60  # characters of a file's text in a message


class ProgramError(ValueError):
    """A file is not one of torch.export, or it has what the export of this package never writes."""


def read_program(path: Path, extra_files: dict[str, str] | None = None) -> Any:
    """Read a file of torch.export that this package has written, or refuse it.

    The checks allow raw numbers, operators of PyTorch (aten), plain names and arithmetic. They do
    not limit the memory and time that a program takes, and rely on PyTorch's operators to check
    their arguments. The inputs that the network was exported with, which are pickled, are left out.

    Args:
        path: Path of the file.
        extra_files: Texts to read from the file, by name; the values are replaced.

    Returns:
        The `torch.export.ExportedProgram`.

    Raises:
        ProgramError: If the file has anything else; the message says what and where.
        OSError: If the file cannot be read.
    """
    import torch

    # Another reader of ZIP files may find other entries in the same bytes, so torch gets new ones.
    buffer = io.BytesIO()
    try:
        with zipfile.ZipFile(path) as archive, zipfile.ZipFile(buffer, "w") as checked:
            copy_entries(archive, checked)
    except (zipfile.BadZipFile, EOFError) as error:
        raise ProgramError("it is damaged; expected a file of torch.export") from error
    buffer.seek(0)
    return torch.export.load(buffer, extra_files=extra_files)


def copy_entries(archive: zipfile.ZipFile, checked: zipfile.ZipFile) -> None:
    """Copy the entries of a file, which are in one folder, if nothing in them can be executed.

    Raises:
        ProgramError: If one of them is not among those that torch.export writes for a network of
            tensors, is compressed, or has something that this package does not write.
    """
    copied: set[str] = set()
    for info in archive.infolist():
        name = info.filename.partition("/")[2]
        is_known = name in SETTINGS or name in OTHER_ENTRIES or NUMBERS.fullmatch(name)
        is_plain = info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & ENCRYPTED
        if not is_known or not is_plain or name in copied:
            raise ProgramError(
                f"it has the entry {info.filename[:LONGEST_QUOTE]!r}; expected weights, constants "
                "and one program, each once and uncompressed, since nothing in a file is executed"
            )
        content = b"" if name == EXAMPLE else archive.read(info)
        if name in SETTINGS:
            check_settings(name, content)
        checked.writestr(f"archive/{name}", content)
        copied.add(name)
    if missing := set(SETTINGS) - copied:
        raise ProgramError(f"it lacks {min(missing)}; expected a file of torch.export")


def check_settings(name: str, content: bytes) -> None:
    """Check an entry in JSON.

    Raises:
        ProgramError: If torch could execute something in it, or it is damaged.
    """
    try:
        problem = next(problems_of(json.loads(content.decode())), None)
    except (RecursionError, TypeError, ValueError) as error:
        raise ProgramError(f"{name} is damaged; expected a file of torch.export") from error
    if problem is not None:
        raise ProgramError(f"{name} has {problem}, since nothing in a file is executed")


def problems_of(value: Any, key: str = "") -> Iterator[str]:
    """Yield what is not allowed in a value of JSON, and what is expected instead.

    Args:
        value: The value.
        key: Key that it, or the list that it is in, has.
    """
    if isinstance(value, dict):
        for name, each in value.items():
            if name == "use_pickle" and each is not False:
                yield "a tensor that is pickled; expected raw numbers"
            if name in OBJECTS or not KEY.fullmatch(name):
                yield f"{name[:LONGEST_QUOTE]!r}; expected tensors and numbers with plain names"
            yield from problems_of(each, name)
    elif isinstance(value, list):
        for each in value:
            yield from problems_of(each, key)
    elif isinstance(value, str) and not is_allowed(value, key):
        expected = "an operator of PyTorch" if key == "target" else "plain names and arithmetic"
        yield f"{key}={value[:LONGEST_QUOTE]!r}; expected {expected}"


def is_allowed(text: str, key: str) -> bool:
    """Return whether a text of JSON cannot execute anything, given its key."""
    if key in QUOTED:
        return True
    if key in ("as_float", "as_floats") and text == "-Infinity":
        return True
    if key == "target":
        return is_operator(text)
    if key == "expr_str":
        return is_arithmetic(text)
    if key in ("in_spec", "out_spec"):
        version, *structures = json.loads(text)
        return version == 1 and all(map(is_structure, structures))
    return bool((DOTTED_NAME if key in DOTTED else NAME).fullmatch(text))


def is_operator(target: str) -> bool:
    """Return whether a name is that of an operator that computes with tensors or their sizes."""
    import torch

    if OTHER_OPERATORS.fullmatch(target):
        return True
    found = OPERATOR.fullmatch(target)
    if found is None or found[1] in WITH_FILES:
        return False
    overload = getattr(getattr(torch.ops.aten, found[1], None), found[2], None)
    return isinstance(overload, torch._ops.OpOverload)


def is_arithmetic(expression: str) -> bool:
    """Return whether SymPy can evaluate an expression, as Python does, without other effects."""
    if not CHARACTERS.fullmatch(expression):
        return False
    try:
        tree = ast.parse(expression, mode="eval")
    except (SyntaxError, MemoryError):
        return False
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if not isinstance(node.func, ast.Name) or node.func.id not in FUNCTIONS:
                return False
        elif isinstance(node, ast.Name):
            if node.id not in FUNCTIONS and not SYMBOL.fullmatch(node.id):
                return False
        elif isinstance(node, ast.Constant):
            is_symbol = isinstance(node.value, str) and SYMBOL.fullmatch(node.value)
            if not is_symbol and not isinstance(node.value, (bool, int, float)):
                return False
        elif not isinstance(node, ARITHMETIC):
            return False
    return True


def is_structure(value: Any) -> bool:
    """Return whether a description of nested containers has only those of Python, without keys."""
    return (
        isinstance(value, dict)
        and value.get("type") in CONTAINERS
        and value.get("context") in (None, "null", "[]")
        and all(map(is_structure, value.get("children_spec", ())))
    )
