"""Random changes to training images: what is drawn for each, and what it does to pixels.

`draws` has the numbers, `geometry`, `colour` and `policies` make a `Program` of them, `program` carries it out: one
resampling, then the operations of `operations`. None of it imports Paddle.
"""
