"""Exported networks, compared with PyTorch."""

import numpy as np
import torch

from lively import lively, used_to_images
from parcnet_train.deploy.exportable import DEFAULTS, Exportable, as_input
from parcnet_train.deploy.formats.formats import FORMATS
from parcnet_train.deploy.formats.onnx import record
from running import TINY

NAMES = ["background", *(f"class {n}" for n in range(1, 10))]


def written(form, model, size, path, file_options=DEFAULTS, **options):
    network = Exportable(model, size, **options)
    FORMATS[form].write(network, path, network.description(NAMES), file_options)
    return FORMATS[form].open(path)


def write_network(network, size, path):
    """Write any network of torch as an ONNX file for one image, with the output `logits`."""
    model = record(network, torch.zeros(1, 3, *size), ["logits"])
    path.write_bytes(model.SerializeToString())


def images_of(size, number=2):
    torch.manual_seed(1)
    return torch.rand(number, 3, *size)


def outputs_of(model, images):
    with torch.no_grad():
        outputs = model(images)
    return outputs[:2] if isinstance(outputs, tuple) else (outputs,)


def assert_equal_to_torch(form, backbone, task, size, path, file_options=DEFAULTS, **options):
    model, images = lively(backbone, task), images_of(size)
    if options.get("preprocess"):
        used_to_images(model, size)  # the outputs of others hardly depend on the image
        images = (255 * images).round() / 255
    file = written(form, model, size, path, file_options, **options)
    found = file.run(as_input(images.numpy(), file.metadata))
    for expected, ours in zip(outputs_of(model, images), found.values(), strict=True):
        spread = float(expected.std())
        np.testing.assert_allclose(ours, expected.numpy(), rtol=0, atol=1e-4 * spread)


def detector_of_all_scores():
    model = lively("parcnet_xs", "detection")
    with torch.no_grad():
        for predictor in model.head.predictors:
            for parameter in predictor.parameters():
                parameter.mul_(0.3)
    return model


EXPORT = (*TINY, "action=export")
