"""Object detection data in COCO's format."""
