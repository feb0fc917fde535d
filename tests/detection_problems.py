"""Random objects and detections, with all that an evaluation has to tell apart."""

import numpy as np

from parcnet_train.detection.evaluators import Found, Problem, Truth


def random_boxes(random, number):
    """Make boxes of all of COCO's size ranges, partly outside of the image."""
    sides = 10 ** random.uniform(0, 2.6, (number, 2))
    return np.hstack([random.uniform(-10, 300, (number, 2)), sides])


def random_problem(seed, most=100):
    """Make a problem; the seed decides about ties, crowds, sizes, and how much there is of each."""
    random = np.random.default_rng(seed)
    images, classes = int(random.integers(1, 20)), int(random.integers(1, 6))
    grid = [0, 1, 8][seed % 3]  # on a grid, IoUs and areas are often exactly a threshold
    objects = int(random.integers(0, 5 * images))
    owners = np.sort(random.integers(1, images + 1, objects))
    labels = random.integers(1, classes + 1, objects)
    boxes = on_grid(random_boxes(random, objects), grid)
    areas = boxes[:, 2] * boxes[:, 3] * random.choice([0, 0.3, 1, 1], objects)
    limits = random.random(objects) < 0.1
    areas[limits] = random.choice([0, 32**2, 96**2, 1e10], limits.sum())
    truth = Truth(owners, labels, boxes, areas, random.random(objects) < random.choice([0, 0.5]))

    near = np.repeat(np.arange(objects), random.integers(0, 4))
    noise = random.normal(1, random.choice([0, 0.03, 0.1]), (len(near), 4))
    other = random.random(len(near)) < 0.1
    near_labels = np.where(other, random.integers(1, classes + 1, len(near)), labels[near])
    many = most + 30 if seed % 4 == 0 else 0  # more than count of one class in one image
    elsewhere = int(random.integers(0, 3 * images)) + many
    images_of = np.concatenate([owners[near], random.integers(1, images + 1, elsewhere)])
    labels_of = np.concatenate([near_labels, random.integers(1, classes + 1, elsewhere)])
    images_of[len(images_of) - many :], labels_of[len(labels_of) - many :] = 1, 1
    boxes_of = np.vstack([boxes[near] * noise, random_boxes(random, elsewhere)])
    scores = [random.random(len(boxes_of)), random.choice([0.3, 0.5, 0.9], len(boxes_of))]
    order = random.permutation(len(boxes_of))
    order = order[np.argsort(images_of[order], kind="stable")]
    found = Found(images_of, labels_of, on_grid(boxes_of, grid), scores[seed % 2])
    return Problem(truth, Found(*(each[order] for each in found)), images, classes, most)


def on_grid(boxes, step):
    return np.round(boxes / step) * step if step else boxes
