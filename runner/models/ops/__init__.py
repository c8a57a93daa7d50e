"""Operators of this package, in C++ and CUDA, compiled on first use."""

from .relu import custom_relu

__all__ = ["custom_relu"]
