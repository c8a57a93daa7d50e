"""Augmentation: which random changes are drawn for each image, and how they are applied to pixels.

`draws` has the random numbers, `geometry`, `colour` and `policies` build a `Program` from them, `program` applies it:
one resampling, then the operations of `operations`. Nothing here imports Paddle.
"""
