"""JSON decoded piece by piece, against `json.loads`."""

import io
import json
import random

import pytest

from parcnet_train.data.detection import json_pieces
from parcnet_train.data.detection.json_pieces import decode

ENTRIES = [
    {"id": 1, "bbox": [1.5, -2e3, 0.25, 1]},
    {"file_name": "}, {.jpg", "text": 'a "quoted" \\ é \ud83d\ude00'},
    {"inner": [{"a": 1}, {"b": [{}, {}]}], "none": None},
    *(12345, "text", [], {}, True, [1, [2, 3]]),
]


def marked(entry):
    """Return an object that has passed through the hook."""
    return {**entry, "seen": len(entry)}


def outcome(function, *arguments):
    """Return the value of a function, or its error's message."""
    try:
        return function(*arguments)
    except ValueError as error:
        return str(error)


def same(text, piece):
    """Assert that a text, decoded in pieces, is what `json.loads` makes of it."""
    expected = outcome(lambda: json.loads(text, object_hook=marked))
    assert outcome(decode, io.StringIO(text), marked, piece) == expected, (text, piece)


@pytest.mark.parametrize("indent", [None, 0, 2])
@pytest.mark.parametrize("piece", [1, 7, 30, 10**6])
def test_documents_are_those_of_json(piece, indent):
    chosen = random.Random(0)
    for length in range(12):
        lists = {name: chosen.choices(ENTRIES, k=length) for name in ("images", "annotations")}
        same(json.dumps({"info": {"year": 2017}, "count": 123, **lists}, indent=indent), piece)
        same(json.dumps({**lists, "count": 123}, indent=indent), piece)
        same(json.dumps(lists["images"], indent=indent), piece)


@pytest.mark.parametrize("piece", [1, 7, 10**6])
def test_faults_are_those_of_json(piece):
    objects = '{"a": 1}, {"a": 2}, {"a": 3}'
    for text in (
        *("", " ", "{", "}", "[", "12", "nul", '"text', "{1: 2}", "{'a': 1}", '{"a" 1}', '{"a": }'),
        *(
            '{"a": [1,]}',
            '{"a": 1,}',
            '{"a": [,1]}',
            '{"a": 1} 2',
            '{"a": [1 2]}',
            '{"a": 1 "b": 2}',
        ),
        *(f'{{"l": [{objects},], "m": [{objects}]}}', f'{{"l": [{objects}]', f'{{"l": [{objects}'),
        *(f'{{"l": [{objects} {objects}]}}', f'{{"l": [{objects}, "m": [{objects}]}}'),
    ):
        same(text, piece)


def test_any_truncated_or_changed_text_gives_what_json_gives():
    text = json.dumps({"images": ENTRIES, "n": 1.5, "annotations": ENTRIES[:2] * 3})
    chosen = random.Random(1)
    for length in range(len(text)):
        same(text[:length], 20)
        at = chosen.randrange(len(text))
        same(text[:at] + chosen.choice('{}[],:"1 ') + text[at + 1 :], chosen.choice((1, 20, 10**4)))


@pytest.mark.parametrize("entry", [12, {"a": 1}], ids=str)
def test_a_piece_is_searched_once_for_objects(entry, monkeypatch):
    """A search may go through a megabyte, which is much for every number of a long list."""
    text = json.dumps({"numbers": [entry, 1] * 500, "annotations": [{"id": 1}] * 500})
    searched = []

    class Counted:
        def finditer(self, *arguments):
            searched.append(arguments)
            return original.finditer(*arguments)

    original = json_pieces.BETWEEN
    monkeypatch.setattr(json_pieces, "BETWEEN", Counted())
    for piece in (1000, 10**6):
        searched.clear()
        same(text, piece)
        assert len(searched) <= len(text) / piece + 1


def test_the_text_is_not_read_at_once():
    """An object is in memory at most as text and value, however long the list is."""
    text = json.dumps({"annotations": [{"id": number} for number in range(1000)]})
    read = []

    class Counted(io.StringIO):
        def read(self, size=-1):
            read.append(size)
            return super().read(size)

    assert len(decode(Counted(text), marked, 100)["annotations"]) == 1000
    assert len(read) > len(text) / 200
    assert max(read) < 200
