"""VOC sets with anything wrong in lists, classes, images and masks are read, or refused."""

import io

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from fuzzing import ends_well, folder, fuzz, hostile_tree, images_of, write_tree
from parcnet_train.data.segmentation.module import VocData
from parcnet_train.data.segmentation.palette import encode_mask
from parcnet_train.data.segmentation.transforms import SegmentationAugmentation

MASK = np.arange(80).reshape(8, 10).astype(np.uint8) // 27


def picture(number, kind):
    stream = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (*MASK.shape, 3), np.uint8)
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def make_tree(pairs):
    tree = {"classes.txt": b"background\ncat\ndog\n"}
    for split, names in (("train", "abc"), ("val", "de")):
        lines = []
        for name in names:
            tree[f"JPEGImages/{name}.jpg"] = picture(ord(name), "JPEG")
            tree[f"SegmentationClass/{name}.png"] = encode_mask(MASK)
            lines.append(f"JPEGImages/{name}.jpg SegmentationClass/{name}.png" if pairs else name)
        tree[f"ImageSets/Segmentation/{split}.txt"] = ("\n".join(lines) + "\n").encode()
    return tree


TREES = [make_tree(False), make_tree(True)]


@fuzz(
    120,
    st.sampled_from(TREES).flatmap(hostile_tree),
    st.sampled_from(["stop", "skip"]),
    st.sampled_from([None, 3]),
    st.sampled_from(["stretch", "keep_aspect", "windows"]),
)
def test_voc_sets_are_read_or_refused(tree, on_error, num_classes, evaluation):
    with folder() as root:
        write_tree(root, tree)
        data = VocData(
            str(root),
            image_size=16,
            batch_size=2,
            augmentation=SegmentationAugmentation(),
            num_workers=0,
            num_classes=num_classes,
            on_error=on_error,
            evaluation=evaluation,
        )
        ends_well(lambda: images_of(data), root)
