"""Demonstration data, written once into the cache: handwritten digits and drawn scenes."""
