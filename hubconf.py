"""Entry points of `torch.hub.load`: the networks of `parcnet_train.timm_models`.

`torch.hub.load(REPOSITORY, "parcnet_s", num_classes=10)` takes the arguments of
`timm.create_model`.
"""

import sys as _sys
from functools import partial as _partial
from pathlib import Path as _Path

dependencies = ["hydra", "omegaconf", "timm", "torch", "torchvision"]

_source = str(_Path(__file__).parent / "src")
if _source not in _sys.path:
    _sys.path.insert(0, _source)

from parcnet_train import timm_models as _timm_models  # noqa: E402

for _name in _timm_models.NETWORKS:
    globals()[_name] = _partial(_timm_models.create_model, _name)
    globals()[_name].__doc__ = getattr(_timm_models, _name).__doc__
