"""Scripts that are written beside exported files and do not need this package."""
