"""ConvSignBART in Keras."""

from signbart_tf.models.conv_signbart.export_graph import for_export, joined_projections
from signbart_tf.models.conv_signbart.model import ConvSignBart as Network

__all__ = ["Network", "for_export", "joined_projections"]
