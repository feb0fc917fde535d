"""Lightning modules, one per task."""
