"""SignBART in PyTorch."""

from signbart_torch.models.signbart.export_graph import (
    for_export,
    joined_projections,
    one_query_attentions,
)
from signbart_torch.models.signbart.model import SignBart as Network
from signbart_torch.models.signbart.units import units

# Converters move them into a constant that is added next: the positions.
BIAS_FOLLOWS = ("projection.proj_x1", "projection.proj_y1")

__all__ = [
    "BIAS_FOLLOWS",
    "Network",
    "for_export",
    "joined_projections",
    "one_query_attentions",
    "units",
]
