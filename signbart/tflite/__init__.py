"""The tables of a .tflite: read, walked, made smaller and written. Nothing here runs a model."""
