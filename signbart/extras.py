"""Which extra of this project's installation brings a package, for those who lack it."""

from __future__ import annotations

# Importable name -> what people call it, and the extra of pyproject.toml; "" for what every
# installation has.
PACKAGES: dict[str, tuple[str, str]] = {
    "numpy": ("NumPy", ""),
    "yaml": ("PyYAML", ""),
    "packaging": ("packaging", ""),
    "ai_edge_litert": ("LiteRT's runtime (ai-edge-litert)", ""),
    "torch": ("PyTorch", "torch"),
    "torchao": ("torchao", "torch"),
    "safetensors": ("safetensors", "torch"),
    "tensorboard": ("TensorBoard", "torch"),
    "litert_torch": ("LiteRT Torch", "litert"),
    "litert_converter": ("LiteRT's converter (litert-converter)", "litert"),
    "onnx": ("ONNX", "onnx"),
    "onnxscript": ("ONNX Script", "onnx"),
    "onnxruntime": ("ONNX Runtime", "onnx"),
    "onnx2tf": ("onnx2tf", "onnx"),
    "onnx_graphsurgeon": ("ONNX GraphSurgeon", "onnx"),
    "sng4onnx": ("sng4onnx", "onnx"),
    "psutil": ("psutil", "onnx"),
    "tf_keras": ("tf-keras", "onnx"),
    "tensorflow": ("TensorFlow", "keras"),
    "keras": ("Keras", "keras"),
    "h5py": ("h5py", "recordings"),
    "pyarrow": ("Apache Arrow (pyarrow)", "recordings"),
    "mediapipe": ("MediaPipe", "video"),
    "cv2": ("OpenCV", "video"),
    "ai_edge_quantizer": ("LiteRT's quantizer (ai-edge-quantizer)", "quantize"),
    "ray": ("Ray", "cluster"),
    "rich": ("Rich", "report"),
    "sklearn": ("scikit-learn", "report"),
    "scipy": ("SciPy", "report"),
    "matplotlib": ("Matplotlib", "report"),
    "PIL": ("Pillow", "report"),
    "markdown": ("Python-Markdown", "report"),
}


def install_command(extra: str = "") -> str:
    """The command that adds an extra to an installation."""
    return f'pip install "signbart[{extra}]"' if extra else "pip install signbart"


def explain_missing(module: str | None) -> str | None:
    """What to tell a user whose Python has no such module; None for what is not of this table.

    Args:
        module: Dotted name, as a `ModuleNotFoundError` gives it.
    """
    found = PACKAGES.get((module or "").partition(".")[0])
    if found is None:
        return None
    title, extra = found
    return f"this needs {title}, which is not installed: {install_command(extra)}"
