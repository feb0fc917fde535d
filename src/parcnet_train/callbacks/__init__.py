"""Callbacks around the steps of a training."""
