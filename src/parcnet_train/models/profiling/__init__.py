"""Parameters, multiply-adds and memory of a network, found without computing anything."""
