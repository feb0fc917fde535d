"""Predictions in Python, and the preprocessing of images."""

import cv2
import numpy as np
import PIL.Image
import pytest
import torch

import parcnet_train
from parcnet_train.data.classification.dataset import ImageFolderDataset
from parcnet_train.data.classification.transforms import EvalTransform
from parcnet_train.data.folders import labels_of
from parcnet_train.data.samplers import SampleKey
from parcnet_train.errors import CheckpointError, UnreadableError
from parcnet_train.predict.inputs import read_file
from parcnet_train.predict.predictions import Classified, Detected, Segmented
from predicting import best, photo, predict


def test_images_are_preprocessed_as_in_the_evaluation(trained, image_folder):
    predictor = parcnet_train.load(best(trained[0])).predictor
    dataset = ImageFolderDataset(
        image_folder / "train", labels_of(["ant", "bee", "cat"]), EvalTransform(), "stop"
    )
    for sample in range(len(dataset)):
        expected, *_ = dataset[SampleKey(sample, 0, (32, 32))]
        found = predictor.prepare(read_file(dataset.path(sample)))
        assert torch.equal(found.pixels, expected)


def test_predict_in_python_matches_the_action(trained, detector, segmenter, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(2):
        cv2.imwrite(str(folder / f"{number}.png"), photo(number))
    path = folder / "1.png"
    model = parcnet_train.load(best(trained[0]))
    _, rows = predict(best(trained[0]), folder, tmp_path / "classes", "predict.batch_size=1")
    found = model.predict(path, top=3)
    assert isinstance(found, Classified)
    expected = rows[1]["predictions"][:3]
    assert found.probabilities == [each["probability"] for each in expected]
    assert found.names == [each["class"] for each in expected]
    with PIL.Image.open(path) as image:
        assert model.predict(image, top=3) == model.predict(np.array(image), top=3) == found
    found = parcnet_train.load(best(detector[1])).predict(str(path), score_threshold=0.01)
    assert isinstance(found, Detected)
    assert found.size == (30, 40)
    assert found.boxes.max(axis=0)[2] <= 40
    assert len(found.names) == len(found.labels) > 0
    found = parcnet_train.load(best(segmenter[1])).predict(path)
    assert isinstance(found, Segmented)
    assert found.mask.shape == (30, 40)
    with pytest.raises(UnreadableError, match=r"gone\.png: No such file"):
        model.predict(folder / "gone.png")


def test_model_without_a_checkpoint_cannot_predict(trained):
    model = parcnet_train.load(best(trained[0]))
    model.predictor = None
    with pytest.raises(CheckpointError, match=r"^predict: .*parcnet_train\.load\(PATH\)"):
        model.predict(photo())
