"""Sweeps: their jobs run in one process each, are shown live, and resume in a later start."""
