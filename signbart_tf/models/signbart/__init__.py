"""SignBART in Keras."""

from signbart_tf.models.signbart.export_graph import (
    for_export,
    joined_projections,
    one_query_attentions,
)
from signbart_tf.models.signbart.model import SignBart as Network

# As in `signbart_torch`'s.
BIAS_FOLLOWS = ("projection.proj_x1", "projection.proj_y1")

__all__ = ["BIAS_FOLLOWS", "Network", "for_export", "joined_projections", "one_query_attentions"]
