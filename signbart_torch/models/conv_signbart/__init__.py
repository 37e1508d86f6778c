"""ConvSignBART in PyTorch."""

from signbart_torch.models.conv_signbart.export_graph import (
    folded,
    for_export,
    joined_projections,
)
from signbart_torch.models.conv_signbart.model import ConvSignBart as Network
from signbart_torch.models.conv_signbart.units import units

__all__ = ["Network", "folded", "for_export", "joined_projections", "units"]
