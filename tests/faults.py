"""Comparison of configuration faults with expected messages."""

import re


def is_like(fault, message):
    """Return whether a fault contains the parts of a message, separated by `…`, in order."""
    return re.search(".*".join(re.escape(part.strip()) for part in message.split("…")), fault)


def assert_one_is(message, faults):
    """Assert that one of several faults is like a message."""
    assert any(is_like(fault, message) for fault in faults), faults
