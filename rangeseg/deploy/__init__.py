"""Networks outside PyTorch: ONNX files and the backends that run them."""
