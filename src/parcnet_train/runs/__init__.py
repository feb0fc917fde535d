"""Run directories: names, locks, provenance and loggers."""
