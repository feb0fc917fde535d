"""Network as it is exported: baked for one image size, with the outputs that the user chose."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from parcnet_train.data.channels import words_of
from parcnet_train.deploy.bake.bake import bake
from parcnet_train.deploy.bake.heads import FixedSSDLite
from parcnet_train.detection.boxes import decode
from parcnet_train.models.model import Model
from parcnet_train.version import __version__

Size = tuple[int, int]

Images = Sequence[npt.NDArray[np.float32]]  # (1, C, H, W) in [0, 1] each

INPUT = "images"
PRECISION = "precision"  # key of the metadata
OUTPUTS = {
    "classification": ("logits",),
    "detection": ("class_logits", "box_offsets"),
    "segmentation": ("logits",),
}
DECODED = ("boxes", "scores", "labels")
CLASSES = ("classes",)


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

    Attributes:
        names: Names of the file's outputs.
    """

    def __init__(
        self, model: Model, size: Size, argmax: bool = False, decoding: Decoding | None = None
    ) -> None:
        super().__init__()
        self.size, self.argmax, self.decoding = size, argmax, decoding
        self.in_channels = model.in_channels
        self.task: str = getattr(model.head, "task", "classification")
        self.network = bake(model, size)
        self.names = OUTPUTS[self.task]
        if argmax:
            self.names = CLASSES
        if decoding is not None:
            self.names = DECODED

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Run the network on `(B, C, *size)` float images in [0, 1]."""
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
        return torch.zeros(1, self.in_channels, *self.size)

    def description(self, class_names: Sequence[str]) -> dict[str, str]:
        """Return the metadata of a file.

        Args:
            class_names: Names of the classes, in the order of the logits.
        """
        words: dict[str, Any] = {
            "parcnet_train_version": __version__,
            PRECISION: "float32",
            "task": self.task,
            "class_names": json.dumps(list(class_names)),
            "image_size": json.dumps(list(self.size)),
            "input": f"{words_of(self.in_channels)}, float32 from 0 to 1, NCHW",
        }
        head = getattr(self.network, "head", None)
        if isinstance(head, FixedSSDLite):
            # The arguments of `detection.anchors.make_anchors`.
            sizes = {"map_sizes": head.map_sizes, "smallest": head.smallest_anchor}
            words["anchors"] = json.dumps(sizes)
        if self.decoding is not None:
            words["boxes"] = "left, top, right, bottom as shares of the image, best first"
        return words
