"""The ONNX rewriter: folds a float graph, inserts Q/DQ nodes, converts to float16 and adds preprocessing."""
