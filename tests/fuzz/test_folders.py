"""Class folders with anything wrong in them are read, or refused."""

import os

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from fuzzing import ends_well, folder, fuzz, hostile_tree, images_of, read_tree, write_tree
from parcnet_train.data.classification.module import ImageFolderData
from parcnet_train.data.classification.transforms import Augmentation

NAMES = ("é", "e\u0301", "a b", "x" * 250, os.fsdecode(b"\xff\xfe"), "🐈", ".x", "@eaDir", "a\nb")


def make_tree():
    with folder() as root:
        for split, count in (("train", 3), ("val", 2)):
            for name in ("ant", "bee", "cat"):
                (root / split / name).mkdir(parents=True)
                for number in range(count):
                    seed = len(split) * 100 + len(name) + number
                    pixels = np.random.default_rng(seed).integers(0, 256, (9, 8, 3), np.uint8)
                    ending = ("png", "jpg")[number % 2]
                    Image.fromarray(pixels).save(root / split / name / f"{number}.{ending}")
        return read_tree(root)


TREE = make_tree()


@st.composite
def trees(draw):
    tree = dict(TREE)
    if draw(st.booleans()):  # another name for a class or an image, in one set or in both
        old = draw(st.sampled_from(["/bee/", "/0.", "train/bee/", "val"]))
        name = draw(st.sampled_from(NAMES))
        new = f"/{name}." if old == "/0." else old.replace("bee", name)
        tree = {path.replace(old, new): content for path, content in tree.items()}
    return draw(hostile_tree(tree, most=2))


@fuzz(120, trees(), st.sampled_from(["stop", "skip"]), st.sampled_from([None, 3]))
def test_class_folders_are_read_or_refused(tree, on_error, num_classes):
    with folder() as root:
        write_tree(root, tree)
        data = ImageFolderData(
            str(root),
            image_size=16,
            batch_size=2,
            augmentation=Augmentation(),
            num_workers=0,
            num_classes=num_classes,
            on_error=on_error,
        )
        ends_well(lambda: images_of(data), root)
