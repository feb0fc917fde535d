"""Run directories: their names, locks, provenance and loggers."""
