"""Trained networks on images of anybody's."""
