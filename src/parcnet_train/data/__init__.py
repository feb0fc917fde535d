"""Data modules, data sets, samplers and transforms of all tasks."""
