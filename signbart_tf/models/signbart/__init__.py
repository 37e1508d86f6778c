"""SignBART in Keras."""

from signbart_tf.models.signbart.export_graph import for_export
from signbart_tf.models.signbart.model import SignBart as Network

__all__ = ["Network", "for_export"]
