"""Trains, distils, compresses, compares and exports image classifiers on PaddlePaddle."""

__version__ = "0.1.0"
