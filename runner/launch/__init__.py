"""The parent of a run: starts and watches the workers, and reports how the run ended. No Paddle, no MLflow."""
