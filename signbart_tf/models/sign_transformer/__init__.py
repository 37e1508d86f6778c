"""The sign Transformer in Keras."""

from signbart_tf.models.sign_transformer.export_graph import for_export
from signbart_tf.models.sign_transformer.model import SignTransformer as Network

__all__ = ["Network", "for_export"]
