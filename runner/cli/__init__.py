"""The command: composes a config, validates it and starts what it asks for. Imports neither Paddle nor MLflow."""
