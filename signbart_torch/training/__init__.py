"""Training in PyTorch: checkpoints, batches, objective, the learner."""
