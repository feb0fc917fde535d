"""Pictures: predictions, class maps and learning curves."""
