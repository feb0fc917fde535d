"""Lightning modules, one a task."""

import parcnet_train.compat  # noqa: F401  before torchmetrics
