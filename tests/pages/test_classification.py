"""Quality of a classifier on a page, with few and with a thousand classes."""

import numpy as np
import pytest

from parcnet_train.classification.predictions import Predictions
from parcnet_train.classification.quality import confusion_matrix
from parcnet_train.pages.classification import evaluated, examples, quality
from parcnet_train.pages.confusion import most_wrong
from parcnet_train.pages.figures import MOST_CLASSES, svg


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
    data.val_set, data.evaluated_classes = Set(count), None
    return Predictions(np.arange(count), labels, found, confidences, of_truth), data


def files_of(block):
    return [each.caption.partition(":")[0] for each in block.drawings]


def test_examples_are_the_surest_right_and_wrong_ones():
    found, data = made(3, 40)
    best, worst, confused = examples(evaluated(found, None, data), 2, data)
    right = found.classes == found.labels
    assert files_of(best) == [f"{n}.png" for n in np.flatnonzero(right)[:2]]
    assert files_of(worst) == [f"{n}.png" for n in np.flatnonzero(~right)[:2]]
    assert all(", predicted class" in each.caption for each in confused.drawings)
    assert all(each.alt for each in best.drawings)


def test_no_error_has_no_examples_of_errors():
    found, data = made(3, 12, right=1)
    each = evaluated(found, None, data)
    confusion, *_ = quality(each)
    assert [block.title for block in examples(each, 2, data)] == ["Best"]
    assert confusion.table is None
    assert confusion.text.startswith("12 of 12 images are right")


def test_a_page_of_1000_classes_is_small_and_legible():
    found, data = made(1000, 5000)
    each = evaluated(found, None, data)
    confusion, scores, _ = quality(each)
    assert f"the {MOST_CLASSES} most confused of 1,000 classes" in confusion.text
    for drawing in confusion.drawings:
        assert len(drawing.content.axes[0].get_yticklabels()) == MOST_CLASSES
    assert len(scores.table.rows) == 1000
    assert len(svg(confusion.drawings[0].content, "confusion")) < 5e5


def test_the_most_confused_classes_are_shown_in_their_order():
    labels = np.repeat([30, 5, 17], 4)
    confusion = confusion_matrix(labels, np.repeat([5, 17, 30], 4), 40)
    assert {5, 17, 30} < set(most_wrong(confusion))
    assert most_wrong(confusion) == sorted(most_wrong(confusion))


def test_the_text_says_whether_the_network_is_too_sure():
    found, data = made(3, 30)
    sure = found._replace(confidences=np.full(30, 1.0))
    _, _, calibration = quality(evaluated(sure, None, data))
    assert "is overconfident" in calibration.text
    assert "(ECE) is" in calibration.text
    accuracy = (found.classes == found.labels).mean()
    assert f"{100 * (1 - accuracy):.2f} %" in calibration.text


@pytest.mark.parametrize("pictures", [1, 3])
def test_number_of_examples_is_that_of_the_task(pictures):
    found, data = made(3, 40)
    shown = examples(evaluated(found, None, data), pictures, data)
    assert [len(each.drawings) for each in shown[:2]] == [pictures] * 2


def test_only_evaluated_classes_are_shown():
    labels, found = np.array([7, 2, 7, 7]), np.array([7, 2, 2, 7])
    shares = np.array([0.9, 0.8, 0.7, 0.6])
    predictions = Predictions(np.arange(4), labels, found, shares, shares)
    _, data = made(10, 4)
    data.evaluated_classes = [2, 5, 7]
    each = evaluated(predictions, None, data)
    confusion, scores, _ = quality(each)
    assert confusion.text == "3 of 4 images are right; the matrix shows all classes."
    assert confusion.table.rows == [["class 7", "class 2", "1", "33.3 %"]]
    assert [row[:2] for row in scores.table.rows] == [
        ["class 2", "1"],
        ["class 7", "3"],
        ["class 5", "0"],
    ]
    *_, confused = examples(each, 4, data)
    assert [one.caption for one in confused.drawings] == [
        "2.png: class 7, predicted class 2 at 70.0 %"
    ]


def test_no_confidence_is_judged_without_predictions_and_if_it_fits():
    found, data = made(3, 12, right=1)
    fits = found._replace(confidences=np.ones(12))
    assert "confident" not in quality(evaluated(fits, None, data))[2].text
    nothing = Predictions(*(each[:0] for each in found))
    assert quality(evaluated(nothing, None, data))[2].text == "No image was evaluated."
