"""A plugin of Hydra: `hydra/launcher=processes`."""
