"""Preparation of official archives: ImageNet, PASCAL VOC 2012 with SBD, and COCO 2017."""
