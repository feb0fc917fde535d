"""Pages for people: a run's `report.html` with its pictures, and the comparison of several runs.

The actions import it; it may import everything else.
"""
