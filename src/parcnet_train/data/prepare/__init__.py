"""Preparation of official archives for training, used by `scripts/prepare_*.py`."""
