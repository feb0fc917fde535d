"""Everything that is checked before a run begins; all faults are reported at once."""
