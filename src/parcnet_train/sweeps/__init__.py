"""Jobs of a sweep, one process each: started, watched, and taken up again in a later start."""
