"""Models and their predictions; the only owner of ONNX Runtime and Ray. No torch."""
