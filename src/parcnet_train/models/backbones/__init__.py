"""Image encoders, one family per file."""
