"""Network as it is exported: baked for one image size, with the outputs that the user chose."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from parcnet_train.data.channels import words_of
from parcnet_train.deploy.bake.bake import bake
from parcnet_train.deploy.bake.heads import FixedSSDLite
from parcnet_train.detection.anchors import box_shapes
from parcnet_train.detection.boxes import CENTER_VARIANCE, MAX_LOG_SIZE, SIZE_VARIANCE, decode
from parcnet_train.models.model import Model
from parcnet_train.version import __version__

Size = tuple[int, int]

Images = Sequence[npt.NDArray[np.float32]]  # (1, C, H, W) in [0, 1] each

INPUT = "images"
# It has LayerNormalization (since 17) and HardSwish (14), and is old enough for most ONNX readers.
OPSET = 18
PRECISION = "precision"  # key of the metadata
OUTPUTS = {
    "classification": ("logits",),
    "detection": ("class_logits", "box_offsets"),
    "segmentation": ("logits",),
}
LAYOUT = "layout"  # key of the metadata: order of the input's axes
INPUTS = {False: "float32 from 0 to 1, NCHW", True: "uint8 from 0 to 255, NHWC"}
DECODED = ("boxes", "scores", "labels")
CLASSES = ("classes",)


@dataclass(frozen=True)
class FileOptions:
    """Settings of a file that do not change the network.

    Attributes:
        dynamic_batch: Whether the batch size is free. A file that outputs objects always takes one
            image.
        opset: Version of ONNX's operators, also of files that are converted from ONNX.
        half: Whether the weights are float16, in ONNX and Core ML also what is computed; inputs and
            outputs stay float32.
    """

    dynamic_batch: bool = True
    opset: int = OPSET
    half: bool = False


DEFAULTS = FileOptions()


@dataclass(frozen=True)
class Scheme:
    """Rule for the ranges of activations in int8.

    Attributes:
        symmetric: Whether every zero point is 0, as TensorRT demands.
        percentile: Share of the values, in percent, that lies within the range of an activation;
            None: all of them.
    """

    symmetric: bool = False
    percentile: float | None = None


ALL_VALUES = Scheme()


@dataclass(frozen=True)
class Decoding:
    """Settings of a detector's post-processing; see `detection.postprocess.detect`.

    Attributes:
        score_threshold: Probability that an object has to exceed.
        nms_iou: IoU above which NMS removes the box with the lower score, of two boxes of a class.
        candidates: Number of boxes per class, those with the highest scores, that enter NMS.
        per_image: Largest number of objects per image.
    """

    score_threshold: float = 0.01
    nms_iou: float = 0.5
    candidates: int = 400
    per_image: int = 200


class Exportable(nn.Module):
    """Network for one image size whose outputs are a tuple of tensors.

    Args:
        model: Backbone and head; the model is not changed.
        size: Height and width of the images, in pixels.
        argmax: Whether a segmentation network outputs the class of every pixel instead of logits.
        decoding: Post-processing settings of a detector that outputs objects instead of logits and
            offsets. This module then outputs the candidates of every class except the background,
            `(C, K, 4)` boxes and `(C, K)` scores; NMS is added in the file.
        preprocess: Whether the network takes pixels as cameras deliver them, `(B, H, W, C)` uint8.
        is_baked: Whether the network is baked; otherwise its parts are as they were trained, only
            to see what baking gives.

    Attributes:
        names: Names of the file's outputs.
    """

    def __init__(
        self,
        model: Model,
        size: Size,
        argmax: bool = False,
        decoding: Decoding | None = None,
        preprocess: bool = False,
        is_baked: bool = True,
    ) -> None:
        super().__init__()
        self.size, self.argmax, self.decoding = size, argmax, decoding
        self.preprocess, self.is_baked = preprocess, is_baked
        self.in_channels = model.in_channels
        self.task: str = getattr(model.head, "task", "classification")
        self.network = bake(model, size) if is_baked else model
        self.names = OUTPUTS[self.task]
        if argmax:
            self.names = CLASSES
        if decoding is not None:
            self.names = DECODED

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Run the network on `(B, C, *size)` images in [0, 1], or on pixels if it takes those."""
        if self.preprocess:
            layout = torch.contiguous_format  # otherwise, ExecuTorch copies every map
            images = images.permute(0, 3, 1, 2).to(torch.float32, memory_format=layout) / 255
        outputs = self.network(images)
        if self.task != "detection":
            return (outputs.argmax(dim=1) if self.argmax else outputs,)
        if self.decoding is None:
            return outputs.class_logits, outputs.box_offsets
        # Class 0 is the background.
        scores = outputs.class_logits.softmax(dim=-1)[0].transpose(0, 1)[1:]
        boxes = decode(outputs.box_offsets, outputs.anchors)[0].clamp(min=0, max=1)
        count = min(self.decoding.candidates, outputs.anchors.shape[0])
        best, anchors = scores.topk(count, dim=1)
        return boxes[anchors], best

    def example(self) -> Tensor:
        """Return images of the right size, for tracing the network."""
        if self.preprocess:
            return torch.zeros(1, *self.size, self.in_channels, dtype=torch.uint8)
        return torch.zeros(1, self.in_channels, *self.size)

    def file_name(self, backbone: str, variant: str = "") -> str:
        """Return the name of a file of this network, without its suffix.

        Args:
            backbone: Name of the backbone's config.
            variant: Ending of the name, such as `int8`; baked files in float32 have none.
        """
        height, width = self.size
        ending = f"-{variant}" if variant else ""
        return f"{backbone}-{self.task}-{height}x{width}{ending}"

    def about(
        self, class_names: Sequence[str], preparation: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return what the metadata of a file says: how to feed it, and what its outputs mean.

        Args:
            class_names: Names of the classes, in the order of the logits.
            preparation: How an image becomes the network's input; see `Predictor.about`.
        """
        words: dict[str, Any] = {
            "parcnet_train_version": __version__,
            PRECISION: "float32",
            "task": self.task,
            "class_names": list(class_names),
            **about_input(self.size, self.in_channels, preparation, self.preprocess),
        }
        if self.decoding is not None:
            words["boxes"] = "left, top, right, bottom as shares of the input, best first"
        elif isinstance(head := getattr(self.network, "head", None), FixedSSDLite):
            words |= about_anchors(head)
        return words

    def description(
        self, class_names: Sequence[str], preparation: Mapping[str, Any] | None = None
    ) -> dict[str, str]:
        """Return the metadata of a file as text, see `about`."""
        return as_text(self.about(class_names, preparation))


def about_input(
    size: Size,
    channels: int,
    preparation: Mapping[str, Any] | None = None,
    preprocess: bool = False,
) -> dict[str, Any]:
    """Return how a network is fed, as the metadata of a file and of a release say.

    Args:
        size: Height and width of the images, in pixels.
        channels: Number of channels of the images.
        preparation: How an image becomes the network's input; see `Predictor.about`.
        preprocess: Whether the network takes pixels as cameras deliver them.
    """
    words: dict[str, Any] = {
        "image_size": list(size),
        "input": f"{words_of(channels)}, {INPUTS[preprocess]}",
        "channels": channels,
        LAYOUT: "NHWC" if preprocess else "NCHW",
        "type": "uint8" if preprocess else "float32",
        # The input is (pixel * scale - mean) / std; mean and deviation of the network's own are
        # applied in the network.
        "scale": 1 if preprocess else 1 / 255,
        "mean": [0.0] * channels,
        "std": [1.0] * channels,
    }
    if preparation is not None:
        words |= {**preparation, "interpolation": "bilinear, not antialiased"}
    return words


def as_text(about: Mapping[str, Any]) -> dict[str, str]:
    """Return metadata as text: values that are no text, as JSON."""
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in about.items()
    }


def about_anchors(head: FixedSSDLite) -> dict[str, Any]:
    """Return what turns a detector's offsets into boxes, without this package.

    Returns:
        `anchors`: for each level of the feature maps, in the order of the outputs, its `rows` and
        `columns`, and the widths and heights of the anchors of each cell (`shapes`), as shares of
        the input; all of them lie on the center of their cell. `variances`: factors of the offsets
        of centers and of the logarithms of sizes. `max_log_size`: see `detection.boxes.decode`.
    """
    shapes = box_shapes(len(head.map_sizes), head.smallest_anchor)
    levels = [
        {
            "rows": rows,
            "columns": columns,
            "shapes": [[min(1.0, side) for side in each] for each in of_level],
        }
        for (rows, columns), of_level in zip(head.map_sizes, shapes, strict=True)
    ]
    variances = [CENTER_VARIANCE, SIZE_VARIANCE]
    return {"anchors": levels, "variances": variances, "max_log_size": MAX_LOG_SIZE}


def as_input(images: npt.NDArray[np.float32], metadata: Mapping[str, str]) -> npt.NDArray[Any]:
    """Return images as a file takes them.

    Args:
        images: Images `(B, C, H, W)` in [0, 1] that were made from pixels of 8 bits.
        metadata: Metadata of the file.
    """
    if metadata.get(LAYOUT) != "NHWC":
        return images
    return np.ascontiguousarray(np.rint(255 * images.transpose(0, 2, 3, 1)).astype(np.uint8))
