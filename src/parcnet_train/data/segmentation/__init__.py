"""Data sets in PASCAL VOC's format."""
