"""The reference implementation of SignBART, in PyTorch. Import `signbart_torch.model` for it."""
