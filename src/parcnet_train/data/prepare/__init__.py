"""Preparation of data sets for the data modules: `action=prepare` and `scripts/prepare_*.py`.

`official/` unpacks official archives; `convert.py` converts your own sets, which `readers/` read
and `writers/` write.
"""
