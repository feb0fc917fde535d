"""What `action=` can be: each a function of a checked configuration that writes `results.json`."""
