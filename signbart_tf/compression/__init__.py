"""Quantization-aware training in Keras."""
