"""Semantic segmentation data in PASCAL VOC's layout."""
