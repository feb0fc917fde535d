"""Conversions that must fail."""

from pathlib import Path

import pytest

from parcnet_train.conversion.convert import convert
from parcnet_train.errors import CheckpointError

SCRIPT = Path(__file__).parents[1] / "scripts" / "convert_weights.py"


SETTINGS = {"publisher": "timm", "backbone": "mobilevit_xxs", "task": "classification"}


def refused(source, error=CheckpointError, **settings):
    """Return the message of a conversion, which must fail and write nothing."""
    target = settings.pop("target", source.parent / "never.ckpt")
    before = sorted(source.parent.iterdir())
    with pytest.raises(error) as caught:
        convert(source, target, **{**SETTINGS, **settings})
    assert sorted(source.parent.iterdir()) == before
    return str(caught.value)
