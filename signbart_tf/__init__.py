"""The Keras 3 twin of `signbart_torch`: same files, classes and attribute names."""
