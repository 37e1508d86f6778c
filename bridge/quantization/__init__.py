"""Number formats of a .tflite: schemes, the quantizer, calibration, errors by tensor."""
