"""`benchmark.target=overhead`: its settings, not its times."""

import pytest

from parcnet_train.benchmarks.overhead import refuse_too_many
from parcnet_train.errors import ConfigError
from running import TINY, run


def test_more_repeats_than_batches_is_an_error():
    refuse_too_many(3, 7)
    expected = r"benchmark\.repeats=4: .*7 batches, .*; expected 1 to 3"
    with pytest.raises(ConfigError, match=expected):
        refuse_too_many(4, 7)


@pytest.mark.slow
def test_trainer_of_several_devices_is_timed_on_one(tmp_path):
    overrides = ["action=benchmark", "benchmark.target=overhead", "benchmark.repeats=1"]
    overrides += ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
    overrides += ["trainer.accumulate_grad_batches=2", "trainer.log_every_n_steps=1"]
    results = run([*TINY, *overrides], tmp_path)
    assert results["overhead/framework/bare/ratio"] == 1
