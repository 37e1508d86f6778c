"""Checkpoints opened as models, and models built from each other by the weight map."""
