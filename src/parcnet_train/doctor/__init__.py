"""Examination of a whole data set for `action=check check.data=full`: files, labels, duplicates.

Only `actions` may import it.
"""
