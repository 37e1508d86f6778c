"""Quantization-aware training and distillation in PyTorch."""
