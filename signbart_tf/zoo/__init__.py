"""The Keras twins of `signbart_torch.zoo`."""
