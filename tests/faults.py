"""Faults of a configuration, compared with what a test expects of them."""

import re


def is_like(fault, message):
    """Whether a fault has these parts of a message, which `…` joins, in this order."""
    return re.search(".*".join(re.escape(part.strip()) for part in message.split("…")), fault)


def assert_one_is(message, faults):
    """One of several faults is the expected one."""
    assert any(is_like(fault, message) for fault in faults), faults
