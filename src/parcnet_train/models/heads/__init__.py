"""Task heads, built from the levels of a backbone."""
