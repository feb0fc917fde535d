"""ResNet: torchvision's, its stages dilated."""

import pytest
import torch
import torchvision

from torchvision_networks import assert_close, normalize, randomize, with_stride


@pytest.mark.parametrize(("output_stride", "replaced"), [(8, (0, 1, 1)), (16, (0, 0, 1))])
def test_dilated_resnet_matches_torchvision(output_stride, replaced):
    torch.manual_seed(0)
    theirs = torchvision.models.resnet50(replace_stride_with_dilation=[*map(bool, replaced)])
    randomize(theirs)
    del theirs.fc
    ours = with_stride("resnet50", output_stride).eval()
    ours.network.load_state_dict(theirs.state_dict())
    images = torch.rand(1, 3, 96, 160)
    with torch.inference_mode():
        got = ours(images)
        x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(normalize(images)))))
        for layer, seen in zip("1234", got[1:], strict=True):
            x = theirs.get_submodule(f"layer{layer}")(x)
            assert_close(seen, x)
