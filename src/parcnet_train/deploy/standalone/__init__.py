"""Scripts that are written beside exported files and need neither this package nor PyTorch."""
