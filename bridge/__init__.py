"""From a PyTorch checkpoint to verified .tflite. Importing this loads no framework."""
