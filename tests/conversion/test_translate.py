"""Translation of published names to ours."""

import golden
from parcnet_train.conversion.layouts import CVNETS
from parcnet_train.conversion.translate import translate
from parcnet_train.models.backbones.parcnet import ParCNet


def test_encoders_of_detectors_and_segmentation_networks_become_the_backbone():
    published = golden.state_dict(golden.read("parcnet_s_classification"))
    encoder = {
        f"encoder.{key}": value
        for key, value in published.items()
        if not key.startswith(("conv_1x1_exp", "classifier"))
    }
    network = ParCNet((16, 32, 64), (96, 128, 160), (192, 256, 320), (2, 4, 3))
    expected = {f"backbone.{name}": value.shape for name, value in network.state_dict().items()}
    entries = translate(encoder, CVNETS)
    assert {name: entry.value.shape for name, entry in entries.items()} == expected
