"""Training itself: steps, losses, optimizers, metrics. Knows no Hydra, no MLflow and no files."""
