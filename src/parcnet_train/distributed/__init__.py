"""The processes of one run: how they are started, found and talked to."""
