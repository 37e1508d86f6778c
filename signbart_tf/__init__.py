"""The Keras 3 twin of `signbart_torch`: same files, classes and attribute names."""

import os

# Keras reads it when it is first imported. The twin is written for TensorFlow alone, whatever the
# user's other projects are set to.
os.environ["KERAS_BACKEND"] = "tensorflow"
