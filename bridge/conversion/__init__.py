"""From a checkpoint to verified artifacts."""
