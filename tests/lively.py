"""Networks whose norms and layer scales affect the output, as in trained networks."""

import torch
from torch import nn
from torch.nn import functional

from parcnet_train.build import build_model
from running import composed


def lively(backbone, task="classification", *overrides, classes=10):
    """Return the composed network in evaluation mode, with random statistics and scales."""
    torch.manual_seed(0)
    config = composed(f"backbone={backbone}", f"task={task}", "action=profile", *overrides)
    model = build_model(config, classes).eval()
    enliven(model)
    return model


def used_to_images(network, size, channels=3):
    """Set BatchNorm statistics from some images, so that the outputs depend on the image."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(8, channels, 4, 4, generator=generator)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.inference_mode():
        network.train()(functional.interpolate(coarse, size))
    return network.eval()


def enliven(model):
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.7, 1.3)
            nn.init.normal_(module.bias, std=0.2)
    for name, parameter in model.named_parameters():
        if "layer_scale" in name:  # ConvNeXt initializes it with 1e-6
            nn.init.uniform_(parameter, 0.3, 0.7)
