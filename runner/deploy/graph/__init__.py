"""The ONNX rewriter: folds a converted graph, and replaces fake quantization by integers."""
