"""`action=watch`: the state of all runs below a folder, in a terminal or a browser."""
