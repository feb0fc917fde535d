"""Configurations: composed by Hydra, read from checkpoints, checked without torch."""
