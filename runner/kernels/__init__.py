"""Faster layers for the CPU: the same functions of the same parameters, equal to Paddle's up to float32 rounding.

Maps are kept batch-last, [C, H, W, N], from the first layer that takes images to the last one before the logits. In
this layout a 1×1 convolution is one matrix product, a depthwise one a loop over runs of N floats, and the normalisation
of a channel one pass over a row. The C++ in `src` is compiled on first use; a machine that cannot compile it computes
depthwise convolutions as matrix products in Paddle. `accelerate` changes a network; `layers` are its new layers,
`functions` their passes with gradients, `autograd` connects these to Paddle's; `native` is the compiled library, which
`build` compiles; `autotune` measures which convolutions Paddle computes faster.
"""
