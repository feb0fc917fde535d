"""Quantized forms of the export formats: weights and activations of 8 bits."""
