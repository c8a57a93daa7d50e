"""The parent of a run: starts the worker processes, watches them and says how the run ended. No Paddle, no MLflow."""
