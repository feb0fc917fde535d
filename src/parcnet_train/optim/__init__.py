"""Learning-rate schedule and fine-tuning: pure functions of parameters and steps."""
