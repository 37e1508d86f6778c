"""Does an artifact agree with PyTorch? Samples, comparison, limits, clips, divergence, reports."""

MIN_SAMPLES = 8  # inputs of each length that an artifact is compared on
