"""The sign Transformer in PyTorch."""

from signbart_torch.models.sign_transformer.export_graph import for_export
from signbart_torch.models.sign_transformer.model import SignTransformer as Network
from signbart_torch.models.sign_transformer.published import read_published

__all__ = ["Network", "for_export", "read_published"]
