"""Hydra plugin for `hydra/launcher=processes`."""
