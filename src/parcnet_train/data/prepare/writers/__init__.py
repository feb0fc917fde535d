"""Writers of the layouts that the data modules read, one module each."""
