"""Trackers: processes that replay the journals of runs into MLflow, TensorBoard and others."""
