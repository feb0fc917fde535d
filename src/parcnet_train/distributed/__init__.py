"""Processes of a run: launcher, rank and world size, collectives."""
