"""Trained networks as files for other engines."""
