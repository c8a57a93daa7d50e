"""The ONNX rewriter: a converted graph, folded, with integers in place of simulated ones."""
