"""Arguments of the Trainer: those that a configuration may have, and those that are refused."""

import inspect

import pytest
import pytorch_lightning

from parcnet_train.config.bounded import REFUSED, Trainer
from running import faults_of


@pytest.mark.parametrize("devices", ["[1]", "[0,1]", "'0,1'", "-1", "cuda:1"])
def test_which_devices_are_used_is_for_the_environment_to_say(devices):
    (fault,) = faults_of("trainer=ddp", f"trainer.devices={devices}")
    assert fault.startswith("trainer.devices=")
    assert "CUDA_VISIBLE_DEVICES" in fault


def test_every_setting_of_the_trainer_works_or_is_refused():
    known = {*Trainer.__annotations__, *(key.removeprefix("trainer.") for key in REFUSED)}
    parameters = inspect.signature(pytorch_lightning.Trainer).parameters
    assert parameters.keys() - known == set()


@pytest.mark.parametrize("plus", ["", "+"])
def test_what_a_training_cannot_follow_is_refused_by_name(plus):
    faults = sorted(faults_of(*(f"{plus}{key}=3" for key in REFUSED)))
    for fault, (key, words) in zip(faults, sorted(REFUSED.items()), strict=True):
        assert fault.startswith(f"{key}=")
        assert words in fault
