"""The MediaPipe GRU in Keras."""

from signbart_tf.models.mediapipe_gru.export_graph import for_export
from signbart_tf.models.mediapipe_gru.model import MediapipeGru as Network

__all__ = ["Network", "for_export"]
