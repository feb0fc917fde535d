"""Form of the docstrings of the package."""

import ast
import re
from pathlib import Path

import parcnet_train

PACKAGE = Path(parcnet_train.__file__).parent
SECTIONS = ("Args:", "Attributes:")
ENTRY = re.compile(r"^    \*{0,2}\w+: (\S+)")
# An entry is a noun phrase: it begins neither with a preposition nor with a relative word.
FORBIDDEN = re.compile(
    "(about|after|against|along|among|around|as|at|before|behind|below|beside|between|beyond|by"
    "|during|for|from|in|inside|into|near|of|off|on|onto|out|outside|over|past|since|that|through"
    "|throughout|to|toward|under|until|upon|via|what|where|which|who|with|within|without)\\b",
    re.IGNORECASE,
)


def entries():
    """The file, the name and the first word of every entry of `Args:` and `Attributes:`."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            inside = False
            lines = (ast.get_docstring(node) or "").splitlines() if isinstance(node, kinds) else []
            for line in lines:
                inside = line in SECTIONS if line and not line.startswith(" ") else inside
                if inside and (match := ENTRY.match(line)):
                    yield file.relative_to(PACKAGE).as_posix(), line.strip(), match[1]


def test_entries_of_arguments_begin_with_a_noun_phrase():
    found = list(entries())
    assert len(found) > 1000
    assert [each for each in found if FORBIDDEN.match(each[2])] == []


def test_entries_of_arguments_begin_with_a_capital():
    assert [each for each in entries() if each[2][0].islower()] == []
