"""Export of trained networks to files for other runtimes; needs neither Hydra nor Lightning."""
