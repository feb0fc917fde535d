"""Data modules and images for tests of class folders."""

from PIL import Image

from parcnet_train.data.classification.module import ImageFolderData
from parcnet_train.data.classification.transforms import Augmentation

UNREADABLE = {
    "empty": b"",
    "text": b"not an image",
    "header only": b"\x89PNG\r\n\x1a\n" + b"\x00" * 20,
}


def make_data(root, **settings):
    defaults = {"image_size": 32, "batch_size": 2, "augmentation": Augmentation(), "num_workers": 0}
    return ImageFolderData(str(root), **{**defaults, **settings})


def fitted(root, **settings):
    data = make_data(root, **settings)
    data.setup("fit")
    return data


def save(array, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
