"""Console tables of the actions."""
