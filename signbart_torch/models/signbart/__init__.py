"""SignBART in PyTorch."""

from signbart_torch.models.signbart.export_graph import for_export
from signbart_torch.models.signbart.model import SignBart as Network

__all__ = ["Network", "for_export"]
