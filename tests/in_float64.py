"""`python -m parcnet_train` in float64, whatever its precision."""

import torch

from parcnet_train import build
from parcnet_train.__main__ import main

if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    build.precision_of = lambda config: "64-true"
    main()
