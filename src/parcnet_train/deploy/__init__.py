"""From a trained network to files for other runtimes; knows neither Hydra nor Lightning."""
