"""Official archives to the layouts that training reads; behind `scripts/prepare_*.py`."""
