"""Quantization-aware training, distillation and pruning in PyTorch."""
