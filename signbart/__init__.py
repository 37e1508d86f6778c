"""The framework-free core of SignBART: configuration, recordings, preprocessing, metrics.

Nothing here imports a deep-learning framework; NumPy and PyYAML are enough.
"""

__version__ = "0.2.0"
