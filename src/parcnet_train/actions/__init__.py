"""Actions: one function per value of `action`, each of which writes `results.json`."""
