import parcnet_train.compat  # noqa: F401  before torchvision
