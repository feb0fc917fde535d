"""Task heads, completed with the levels of a backbone."""
