"""Arithmetic of class maps: pure functions of tensors, no modules."""
