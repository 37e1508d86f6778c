"""Other PyTorch classifiers that the bridge carries."""
