"""Predictions gathered over batches and processes."""

import numpy as np
import torch

from parcnet_train.classification.predictions import GatherPredictions
from parcnet_train.data.batches import PADDING, UNLABELED


def logits_of(*probabilities):
    return torch.tensor(probabilities).log()


def test_predictions_are_in_the_order_of_the_data_set_without_padding():
    gathered = GatherPredictions()
    first, second = torch.tensor([3, 0]), torch.tensor([1, PADDING])
    gathered.update(first, torch.tensor([1, 0]), logits_of([0.7, 0.3], [0.9, 0.1]))
    gathered.update(second, torch.tensor([1, UNLABELED]), logits_of([0.2, 0.8], [0.5, 0.5]))
    found = gathered.compute()
    assert found.samples.tolist() == [0, 1, 3]
    assert found.labels.tolist() == [0, 1, 1]
    assert found.classes.tolist() == [0, 1, 0]
    np.testing.assert_allclose(found.confidences, [0.9, 0.8, 0.7], rtol=1e-6)
    np.testing.assert_allclose(found.of_truth, [0.9, 0.8, 0.3], rtol=1e-6)


def test_an_image_counts_once():
    gathered = GatherPredictions()
    for _ in range(2):
        gathered.update(torch.tensor([5]), torch.tensor([0]), logits_of([0.6, 0.4]))
    assert gathered.compute().samples.tolist() == [5]
