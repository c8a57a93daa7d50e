"""MLflow as the mirror of run directories: a process of its own replays a run's journal into it."""
