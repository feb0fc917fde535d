"""Layers: the circular convolution, ParC, and the convolutional blocks."""
