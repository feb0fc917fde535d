"""Predictors of all tasks: preprocessing and postprocessing are those of the evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from parcnet_train.data.channels import RGB
from parcnet_train.data.classification.transforms import EvalTransform
from parcnet_train.data.decoding import Image
from parcnet_train.data.detection.transforms import DetectionEvalTransform, View
from parcnet_train.data.headers import MAX_PIXELS
from parcnet_train.data.resizing import LETTERBOX_COLOR
from parcnet_train.data.segmentation.transforms import (
    MaskedView,
    SegmentationEvalTransform,
    unchanged,
)
from parcnet_train.detection.placement import to_original
from parcnet_train.detection.postprocess import detect
from parcnet_train.models.model import scaled
from parcnet_train.predict.predictions import Classified, Detected, Prediction, Segmented
from parcnet_train.predict.predictor import Options, Predictor, Prepared
from parcnet_train.segmentation.inference import OVERLAP, classes_of_windows, logits_of_scales
from parcnet_train.segmentation.upsample import Mode, classes_at, covered
from parcnet_train.sizes import Size


class ClassPredictor(Predictor):
    """Predictor of the most probable classes of an image."""

    def about(self) -> dict[str, Any]:
        """Return how an image becomes the network's input, see `Predictor.about`."""
        cover = [*EvalTransform.cover(self.key.size)]
        return {"resize": cover, "keep_aspect": True, "crop": [*self.key.size], "fill": None}

    def transform(self, image: Image) -> tuple[Image, Any]:
        """Return the center crop of the image; its placement is not needed."""
        return EvalTransform()(image, self.key), np.full(4, np.nan)

    def find(
        self, network: nn.Module, images: Tensor, prepared: Sequence[Prepared], options: Options
    ) -> list[Prediction]:
        """Return the most probable classes of every image: `options.top`, or all of fewer."""
        probabilities = network(images).float().softmax(dim=1)[: len(prepared)]
        values, labels = probabilities.topk(min(options.top, len(self.class_names)), dim=1)
        return [
            Classified([self.class_names[label] for label in row], row, of_row)
            for row, of_row in zip(labels.tolist(), values.tolist(), strict=True)
        ]


class ObjectPredictor(Predictor):
    """Predictor of the objects in an image.

    Args:
        class_names: Names of the network's classes, the background first.
        size: Height and width of the network's input, in pixels.
        keep_aspect: Whether images keep their aspect ratio; see `CocoData`.
        nms_iou: IoU above which NMS removes a box; see `DetectionTask`, also for the next two.
        candidates: Number of boxes per class, the best ones, that enter NMS.
        detections_per_image: Number of objects per image, the best ones, that are kept after NMS.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        size: Size,
        keep_aspect: bool = False,
        nms_iou: float = 0.5,
        candidates: int = 400,
        detections_per_image: int = 200,
    ) -> None:
        super().__init__(class_names, size)
        self.keep_aspect = keep_aspect
        self.resize = DetectionEvalTransform(keep_aspect)
        self.suppression = (nms_iou, candidates, detections_per_image)

    def about(self) -> dict[str, Any]:
        """Return how an image becomes the network's input, and how boxes become objects."""
        names = ("nms_iou", "candidates", "detections_per_image")
        suppression = dict(zip(names, self.suppression, strict=True))
        return {**whole(self.key.size, self.keep_aspect), **suppression}

    def transform(self, image: Image) -> tuple[Image, Any]:
        """Return the whole image, resized."""
        view = View(image, np.zeros((0, 4)), np.zeros(0, np.int64))
        moved = self.resize(view, self.key)
        return moved.image, moved.placement

    def find(
        self, network: nn.Module, images: Tensor, prepared: Sequence[Prepared], options: Options
    ) -> list[Prediction]:
        """Return the objects of every image."""
        found = detect(network(images), options.score_threshold, *self.suppression)
        predictions: list[Prediction] = []
        for each, image in zip(found, prepared, strict=False):  # the rest is padding
            placement = image.placement.to(each.boxes.device)
            boxes = to_original(each.boxes, self.key.size, placement, image.size)
            # As in evaluations: a box that is not finite would match every object.
            kept = boxes.isfinite().all(dim=1)
            labels = each.labels[kept].cpu().numpy()
            predictions.append(
                Detected(
                    [self.class_names[label] for label in labels.tolist()],
                    labels,
                    each.scores[kept].cpu().numpy(),
                    boxes[kept].cpu().numpy(),
                    image.size,
                )
            )
        return predictions


class PixelPredictor(Predictor):
    """Predictor of the class of every pixel.

    Args:
        class_names: Names of the network's classes.
        size: Height and width of the network's input, or of its windows, in pixels.
        evaluation: Way in which images are resized; see `VocData`.
        enlarge: Interpolation of the upsampling; see `SegmentationTask`, also for the next two.
        scales: Scales of the images over which the outputs are averaged.
        mirror: Whether to average over the mirrored images, too.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        size: Size,
        evaluation: str = "stretch",
        enlarge: Mode = "nearest",
        scales: Sequence[float] = (1.0,),
        mirror: bool = False,
    ) -> None:
        super().__init__(class_names, size)
        self.keep_aspect = evaluation == "keep_aspect"
        self.takes_one = evaluation == "windows"
        self.resize = SegmentationEvalTransform(self.keep_aspect)
        self.enlarge: Mode = enlarge
        self.scales = scales
        self.mirror = mirror

    def about(self) -> dict[str, Any]:
        """Return how an image becomes the network's input, and how logits become a mask."""
        if self.takes_one:
            size = [*self.key.size]
            windows = {"crop": size, "fill": LETTERBOX_COLOR, "overlap": OVERLAP}
            return {"resize": None, "keep_aspect": True, **windows}
        return {**whole(self.key.size, self.keep_aspect), "enlarge": self.enlarge}

    def transform(self, image: Image) -> tuple[Image, Any]:
        """Return the whole image: resized, or unchanged if it is evaluated in windows."""
        view = MaskedView(image, np.zeros(image.shape[:2], np.uint8))
        moved = unchanged(view, self.key) if self.takes_one else self.resize(view, self.key)
        return moved.image, moved.placement

    def find(
        self, network: nn.Module, images: Tensor, prepared: Sequence[Prepared], options: Options
    ) -> list[Prediction]:
        """Return the mask of every image, at its original size."""

        def logits(each: Tensor) -> Tensor:
            return logits_of_scales(network, scaled(each), self.scales, self.mirror)

        if self.takes_one:
            masks = [classes_of_windows(logits, images[0], self.key.size)]
        else:
            found = logits(images).float()[: len(prepared)]
            masks = []
            for each, image in zip(found, prepared, strict=True):
                rows, columns = covered(image.size, image.placement)
                masks.append(classes_at(each[:, rows, columns], image.size, self.enlarge))
        return [Segmented(mask.cpu().numpy(), self.class_names) for mask in masks]


def whole(size: Size, keep_aspect: bool) -> dict[str, Any]:
    """Return how a whole image becomes the network's input, see `Predictor.about`."""
    fill = LETTERBOX_COLOR if keep_aspect else None
    return {"resize": [*size], "keep_aspect": keep_aspect, "crop": None, "fill": fill}


def predictor_of(
    name: str,
    class_names: Sequence[str],
    size: Size,
    task: Mapping[str, Any],
    data: Mapping[str, Any],
) -> Predictor | None:
    """Return the predictor of a checkpoint, None for a custom task.

    Args:
        name: Name of the chosen task.
        class_names: Class names of the checkpoint.
        size: Height and width of the network's input, in pixels.
        task: Arguments of the task; a default applies to each one that is missing.
        data: Arguments of the data module, likewise; a converted checkpoint has none.
    """
    predictor: Predictor
    match name:
        case "classification":
            predictor = ClassPredictor(class_names, size)
        case "detection":
            names = ("nms_iou", "candidates", "detections_per_image")
            settings = {**among(task, *names), **among(data, "keep_aspect")}
            predictor = ObjectPredictor(class_names, size, **settings)
        case "segmentation":
            names = ("enlarge", "scales", "mirror")
            settings = {**among(task, *names), **among(data, "evaluation")}
            predictor = PixelPredictor(class_names, size, **settings)
        case _:
            return None
    predictor.max_pixels = data.get("max_pixels", MAX_PIXELS)
    predictor.channels = data.get("channels", RGB)
    return predictor


def among(node: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Return the values that a config section has, of some names: older ones have fewer."""
    return {name: node[name] for name in names if name in node}
