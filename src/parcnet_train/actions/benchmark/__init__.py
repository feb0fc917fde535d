"""`action=benchmark`: one module per group of targets."""
