"""Published weights to checkpoints of this package; `scripts/convert_weights.py` is its front."""
