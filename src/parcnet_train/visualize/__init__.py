"""Pictures: predictions, class maps and learning curves; the frame of HTML pages."""
