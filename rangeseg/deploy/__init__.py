"""Networks outside PyTorch: ONNX files, and the programs that run them."""
