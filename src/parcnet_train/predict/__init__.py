"""Prediction: run a checkpoint on your own images."""
