"""Arithmetic of classifications: pure functions of arrays, no modules."""
