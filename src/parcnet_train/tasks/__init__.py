"""Lightning modules, one a task."""
