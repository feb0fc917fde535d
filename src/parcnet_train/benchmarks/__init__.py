"""Measurements by the clock: variants of one computation that take turns."""
