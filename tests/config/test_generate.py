"""JSON Schemas made from constructors."""

import inspect
from typing import Annotated, Literal, TypedDict, Unpack

import pytest
from annotated_types import Ge

from parcnet_train.config.generate import in_order, schema_of, schema_of_type
from parcnet_train.config.sections import Epochs


def build(width: Annotated[int, Ge(1)], kind: Literal["a", "b"] = "a", own: object = None) -> None:
    """Build something.

    Args:
        width: Number of channels.
        kind: Kind of layer.
        own: Anything.
    """


def test_arguments_have_types_bounds_and_descriptions():
    schema = schema_of(build, "mine.build")
    assert schema["required"] == ["width"]
    assert schema["additionalProperties"] is False
    width, kind = schema["properties"]["width"], schema["properties"]["kind"]
    assert (width["type"], width["minimum"]) == ("integer", 1)
    assert width["description"] == "Number of channels."
    assert kind["enum"] == ["a", "b"]
    assert (kind["default"], schema["properties"]["own"]["default"]) == ("a", None)
    assert "default" not in width


def test_a_constructor_may_take_any_argument():
    assert schema_of(lambda **options: options, "mine.any")["additionalProperties"] is True


class Shared(TypedDict, total=False):
    """Arguments that are passed on."""

    depth: int


class Base:
    """Something with a depth.

    Args:
        depth: Number of layers.
    """

    def __init__(self, width: int, depth: Annotated[int, Ge(2)] = 3) -> None:
        """Do nothing."""


class PassesOn(Base):
    """Something with a depth and a fixed width."""

    def __init__(self, kind: str, **shared: Unpack[Shared]) -> None:
        super().__init__(1, **shared)


class Inherits(PassesOn):
    """Something with the constructor of its base class."""


@pytest.mark.parametrize("target", [PassesOn, Inherits])
def test_arguments_that_are_passed_on_are_those_of_the_base_class(target):
    schema = schema_of(target, "mine.target")
    assert sorted(schema["properties"]) == ["depth", "kind"]
    assert schema["properties"]["depth"] == {
        "type": "integer",
        "minimum": 2,
        "description": "Number of layers.",
        "default": 3,
    }
    assert (schema["required"], schema["additionalProperties"]) == (["kind"], False)


def test_an_annotation_of_any_class_accepts_everything():
    assert schema_of_type(object) == {}


def test_keys_of_a_mapping_are_described():
    schema = schema_of_type(Epochs)
    assert schema["description"] == inspect.getdoc(Epochs).splitlines()[0]
    assert schema["properties"]["at_least"]["description"] == "Smallest number of epochs."


def test_order_of_alternatives_does_not_depend_on_imports():
    integer, number, null = ({"type": kind} for kind in ("integer", "number", "null"))
    assert in_order([number, integer, null]) == in_order([integer, number, null])
    assert in_order([null, number, integer]) == [null, integer, number]
    assert in_order([number, null]) == [number, null]
