"""Training in Keras: checkpoints, batches, loops, optimizer, the learner."""
