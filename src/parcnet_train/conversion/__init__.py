"""Conversion of published weights to checkpoints; `scripts/convert_weights.py` is its CLI."""
