"""The map between PyTorch's and Keras's weights, and checkpoints read without a framework."""
