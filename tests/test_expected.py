"""Files in `conf/` state expected numbers, so that tests cover new backbones unchanged."""

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from expected import FORM, Expected, expected_of, written_like

TESTS = Path(__file__).parent
# Tests of every backbone: contract, heads, costs and fine-tuning.
OF_BACKBONES = (
    "models/backbones/test_contract.py",
    "models/heads/test_ssdlite.py",
    "models/heads/test_deeplabv3.py",
    "models/profiling/test_counts.py",
    "optim/test_finetuning.py",
)

CODE = '''
from torch import nn

from parcnet_train.models.base import Backbone, Level, OutputStride, last_stages
from parcnet_train.models.layers.blocks import ConvNormAct


class Toy(Backbone):
    """Four convolutions.

    Args:
        width: Channels of the first one.
        output_stride: Stride of the last level.
    """

    def __init__(self, width: int, output_stride: OutputStride = 32) -> None:
        super().__init__()
        samplings = last_stages(output_stride)
        channels = [width, 2 * width, 3 * width, 4 * width]
        strides = [4, *(each.output_stride for each in samplings)]
        self.levels = tuple(map(Level, strides, channels))
        self.stages = nn.ModuleList(
            [
                ConvNormAct(3, width, 3, stride=4),
                *(
                    ConvNormAct(before, after, 3, each.stride, dilation=each.dilation_before)
                    for before, after, each in zip(channels, channels[1:], samplings)
                ),
            ]
        )
'''
CONFIG = """\
{expected}
_target_: toy_backbone.Toy
pretrained: null
width: 8
output_stride: 32
"""


def size_and_cost(width=8, size=64):
    """Count convolutions without bias, scale and shift per channel, and 1000 classes."""
    channels = [3, width, 2 * width, 3 * width, 4 * width]
    kernels = [9 * a * b for a, b in itertools.pairwise(channels)]
    pixels = [(size // stride) ** 2 for stride in (4, 8, 16, 32)]
    parameters = sum(kernels) + 2 * sum(channels[1:]) + 1000 * channels[-1] + 1000
    return parameters, sum(map(int.__mul__, kernels, pixels)) + 1000 * channels[-1]


def write_toy(folder):
    """Write a custom backbone: its code to `folder`, its config to `folder/conf`."""
    parameters, multiply_adds = size_and_cost()
    expected = (
        f"# Expected: {parameters:,} parameters, {multiply_adds / 1e6:.2f} M multiply-adds "
        "(1000 classes, 64x64 pixels)."
    )
    (folder / "toy_backbone.py").write_text(CODE)
    (folder / "conf" / "backbone").mkdir(parents=True)
    (folder / "conf" / "backbone" / "toy.yaml").write_text(CONFIG.format(expected=expected))


@pytest.mark.slow
def test_new_backbone_gets_every_contract_test(tmp_path):
    write_toy(tmp_path)
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "PARCNET_TRAIN_CONFIG_DIR": str(tmp_path / "conf"),
    }
    command = [sys.executable, "-m", "pytest", "-vv", "-p", "no:cacheprovider", "-k", "toy"]
    done = subprocess.run(
        [*command, *(str(TESTS / file) for file in OF_BACKBONES)],
        cwd=TESTS.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    passed = set(re.findall(r"^(\S+)::(test_\w+)\[.*toy.*\] PASSED", done.stdout, re.MULTILINE))
    contract = TESTS / OF_BACKBONES[0]
    named = {name for file, name in passed if file.endswith(OF_BACKBONES[0])}
    assert named == set(re.findall(r"^def (test_\w+)", contract.read_text(), re.MULTILINE))
    assert {file.partition("tests/")[2] for file, _ in passed} == set(OF_BACKBONES)


def test_backbone_without_expected_numbers_raises(tmp_path):
    (tmp_path / "mine.yaml").write_text("# Expected: 3 parameters.\n_target_: mine.Net\n")
    with pytest.raises(AssertionError, match="does not state its size and cost") as caught:
        expected_of(tmp_path / "mine.yaml")
    assert str(tmp_path / "mine.yaml") in str(caught.value)
    assert FORM in str(caught.value)


def test_expected_numbers_are_compared_with_the_digits_of_the_file(tmp_path):
    (tmp_path / "mine.yaml").write_text(f"# About.\n{FORM} Source: the paper.\n")
    expected = Expected(5_037_088, "1,657 M", (256, 256), "classifier")
    assert expected_of(tmp_path / "mine.yaml") == expected
    (tmp_path / "mine.yaml").write_text(FORM.replace("(1000", "(head=native, 1000"))
    assert expected_of(tmp_path / "mine.yaml") == expected._replace(head="native")
    assert written_like(1_657_347_584, "1,657 M") == "1,657 M"
    assert written_like(1_657_347_584, "1.66 G") == "1.66 G"
    assert written_like(1_657_347_584, "2.0 G") == "1.7 G"
