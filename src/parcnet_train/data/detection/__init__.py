"""Data sets in COCO's format."""
