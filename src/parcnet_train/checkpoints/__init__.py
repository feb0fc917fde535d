"""Checkpoints: written, read without executing anything, and compared."""
