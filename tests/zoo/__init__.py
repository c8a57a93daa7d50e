"""What networks that others designed can do here, from training to pruning: `python -m tests.zoo`."""
