"""ResNet: He et al., CVPR 2016, arXiv 1512.03385; and ParC-ResNet-50.

The network is torchvision's "V1.5": the stride of a stage is in its 3x3 convolution. The
convolutions that ParC replaces, and its initial weights, follow the released ParC-ResNet-50
(section 4.5 of ParC-Net's paper): kernels are dense within each half of the channels.
"""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models import resnet

from parcnet_train.bounds import Count, Pixels, Positive
from parcnet_train.models.backbones.adapt import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Normalize,
    Triple,
    dilate,
    insert_parc,
)
from parcnet_train.models.base import Backbone, Level, OutputStride, last_stages
from parcnet_train.models.layers.parc import CircularConv


class Stem(nn.Sequential):
    """First layers of a ResNet, looked up when they run, since bn1 may become a SyncBatchNorm.

    Args:
        normalize: Module that normalizes the images.
        network: Network of torchvision.
    """

    def __init__(self, normalize: nn.Module, network: resnet.ResNet) -> None:
        super().__init__(normalize, network.conv1, network.bn1, network.relu)
        self.network = [network]  # a list, since the network is registered elsewhere

    def forward(self, images: Tensor) -> Tensor:
        """Map `(B, 3, H, W)` to `(B, 64, H / 2, W / 2)`."""
        (network,) = self.network
        return network.relu(network.bn1(network.conv1(self[0](images))))


class ResNet(Backbone):
    """torchvision's ResNet of bottleneck blocks, without its classifier.

    Parameters are named `network.` followed by torchvision's name.

    Args:
        depths: Numbers of blocks of the stages of stride 4, 8, 16 and 32.
        output_stride: Stride of the last level; values below 32 replace stride by dilation.
        parc_layers: Names or patterns of the 3x3 convolutions of stride 1 that ParC replaces, such
            as `layer4.2.conv2`.
        position_embeddings: Layers with position embeddings: all of them (true), none (false), or
            the named ones.
        meta_size: Image size in pixels (one number, or height and width) whose feature sizes set
            the lengths of ParC's kernels and embeddings; they are resized for other sizes.
        mean: Per-channel RGB mean to subtract, in [0, 1].
        std: Per-channel RGB standard deviation to divide by.
    """

    def __init__(
        self,
        depths: tuple[Count, Count, Count, Count],
        output_stride: OutputStride = 32,
        parc_layers: tuple[str, ...] = (),
        position_embeddings: bool | tuple[str, ...] = True,
        meta_size: Pixels = 224,
        mean: Triple = IMAGENET_MEAN,
        std: tuple[Positive, Positive, Positive] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        network = resnet.ResNet(resnet.Bottleneck, list(depths))
        insert_parc(network, parc_layers, position_embeddings, meta_size)
        del network.avgpool, network.fc
        layers = (network.layer1, network.layer2, network.layer3, network.layer4)
        samplings = last_stages(output_stride)
        for layer, sampling in zip(layers[1:], samplings, strict=True):
            dilate(layer, sampling)
        self.network = network
        self.normalize = Normalize(mean, std)
        # A plain list: the layers belong to `network`, under torchvision's names.
        self.stages = [
            Stem(self.normalize, network),
            nn.Sequential(network.maxpool, network.layer1),
            *layers[1:],
        ]
        self.levels = (
            Level(2, 64),
            Level(4, 256),
            Level(samplings[0].output_stride, 512),
            Level(samplings[1].output_stride, 1024),
            Level(samplings[2].output_stride, 2048),
        )
        for module in self.modules():
            if isinstance(module, CircularConv):  # initialized like torchvision's own ones
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
