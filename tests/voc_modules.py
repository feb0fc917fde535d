"""Data modules of the small VOC data set."""

from parcnet_train.data.segmentation.module import VocData
from parcnet_train.data.segmentation.transforms import SegmentationAugmentation


def make_data(root, **settings):
    defaults = {"image_size": 64, "batch_size": 2, "num_workers": 0}
    augmentation = settings.pop("augmentation", SegmentationAugmentation())
    return VocData(str(root), augmentation=augmentation, **{**defaults, **settings})
