"""Demonstration data, written once into the cache: digits and drawn scenes."""
