"""JSON Schemas made from constructors."""

import inspect
from typing import Annotated, Literal

from annotated_types import Ge

from parcnet_train.config.generate import schema_of, schema_of_type
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


def test_an_annotation_of_any_class_accepts_everything():
    assert schema_of_type(object) == {}


def test_keys_of_a_mapping_are_described():
    schema = schema_of_type(Epochs)
    assert schema["description"] == inspect.getdoc(Epochs).splitlines()[0]
    assert schema["properties"]["at_least"]["description"] == "Smallest number of epochs."
