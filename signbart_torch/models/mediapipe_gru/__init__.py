"""The MediaPipe GRU in PyTorch."""

from signbart_torch.models.mediapipe_gru.export_graph import for_export, for_onnx
from signbart_torch.models.mediapipe_gru.model import MediapipeGru as Network
from signbart_torch.models.mediapipe_gru.published import read_published

__all__ = ["Network", "for_export", "for_onnx", "read_published"]
