"""Checkpoints of a run and weights from anywhere."""
