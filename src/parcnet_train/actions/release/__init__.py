"""`action=release`: a checkpoint as a folder to publish."""
