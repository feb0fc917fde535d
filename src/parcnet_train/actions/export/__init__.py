"""`action=export`: the file, its int8 ranges, and its verification."""
