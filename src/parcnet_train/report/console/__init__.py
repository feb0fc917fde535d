"""Tables that actions print."""
