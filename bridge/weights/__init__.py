"""Checkpoints, and the map between PyTorch's and Keras's weights."""
