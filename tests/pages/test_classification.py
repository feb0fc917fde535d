"""Quality of a classifier on a page, with few and with a thousand classes."""

import numpy as np
import pytest

from parcnet_train.classification.predictions import Predictions
from parcnet_train.classification.quality import confusion_matrix
from parcnet_train.pages.classification import blocks, most_wrong
from parcnet_train.pages.figures import MOST_CLASSES, svg
from parcnet_train.pages.parts import MOST_IMAGES


class Set:
    """Images whose files are named after their position."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def files(self):
        return np.array([b"%d.png" % number for number in range(self.count)])

    def original(self, sample):
        return np.full((8, 8, 3), sample % 256, np.uint8)


def made(classes, count, right=0.8):
    """Predictions of which a share is right; the confidence falls with the position."""
    random = np.random.default_rng(0)
    labels = random.integers(0, classes, count)
    found = np.where(random.random(count) < right, labels, random.integers(0, classes, count))
    confidences = np.linspace(1, 0.1, count)
    of_truth = np.where(found == labels, confidences, 1 - confidences)
    data = type("Data", (), {"class_names": [f"class {n}" for n in range(classes)]})
    data.val_set = Set(count)
    return Predictions(np.arange(count), labels, found, confidences, of_truth), data


def task(pictures):
    return type("Task", (), {"pictures": pictures})


def files_of(block):
    return [each.caption.partition(":")[0] for each in block.drawings]


def test_examples_are_the_surest_right_and_wrong_ones():
    found, data = made(3, 40)
    _, (best, worst, confused) = blocks(found, task(2), data)
    right = found.classes == found.labels
    assert files_of(best) == [f"{n}.png" for n in np.flatnonzero(right)[:2]]
    assert files_of(worst) == [f"{n}.png" for n in np.flatnonzero(~right)[:2]]
    assert all(", predicted class" in each.caption for each in confused.drawings)
    assert all(each.alt for each in best.drawings)


def test_no_error_has_no_examples_of_errors():
    found, data = made(3, 12, right=1)
    quality, examples = blocks(found, task(2), data)
    assert [each.title for each in examples] == ["Best"]
    assert quality[0].table is None
    assert quality[0].text.startswith("12 of 12 images are right")


def test_a_page_of_1000_classes_is_small_and_legible():
    found, data = made(1000, 5000)
    quality, examples = blocks(found, task(1000), data)
    confusion, scores, _ = quality
    assert f"the {MOST_CLASSES} most confused of 1,000 classes" in confusion.text
    for drawing in confusion.drawings:
        assert len(drawing.content.axes[0].get_yticklabels()) == MOST_CLASSES
    assert len(scores.table.rows) == 1000
    assert max(len(each.drawings) for each in examples) == MOST_IMAGES
    assert len(svg(confusion.drawings[0].content, "confusion")) < 5e5


def test_the_most_confused_classes_are_shown_in_their_order():
    labels = np.repeat([30, 5, 17], 4)
    confusion = confusion_matrix(labels, np.repeat([5, 17, 30], 4), 40)
    assert {5, 17, 30} < set(most_wrong(confusion))
    assert most_wrong(confusion) == sorted(most_wrong(confusion))


def test_the_text_says_whether_the_network_is_too_sure():
    found, data = made(3, 30)
    _, _, calibration = blocks(found._replace(confidences=np.full(30, 1.0)), task(1), data)[0]
    assert "is overconfident" in calibration.text
    assert "(ECE) is" in calibration.text
    accuracy = (found.classes == found.labels).mean()
    assert f"{100 * (1 - accuracy):.2f} %" in calibration.text


@pytest.mark.parametrize("pictures", [1, 3])
def test_number_of_examples_is_that_of_the_task(pictures):
    found, data = made(3, 40)
    _, examples = blocks(found, task(pictures), data)
    assert [len(each.drawings) for each in examples[:2]] == [pictures] * 2
