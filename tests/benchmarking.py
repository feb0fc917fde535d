"""Settings of small benchmarks."""

import itertools

SHAPE = (2, 3, 4, 6)


STEP = ("action=benchmark", "benchmark.target=train_step", "benchmark.repeats=1")


EVERYTHING = tuple(itertools.product(("nchw", "channels_last"), ("float32", "bfloat16")))
