"""The errors that users meet. Each text says what failed, where, and what to do."""


class SignBartError(Exception):
    """Base of every error that a command reports without a traceback."""


class ConfigError(SignBartError):
    """A configuration file, or a ``--set`` override, cannot be used."""


class DivergedError(ConfigError):
    """A training's loss is NaN or infinite, by its settings."""


class ClipError(SignBartError):
    """A recording, or a data set, cannot be read or does not fit the configuration."""


class CheckpointError(SignBartError):
    """A checkpoint cannot be read, or does not fit the model it is loaded into."""


class ArtifactError(SignBartError):
    """An artifact cannot be read, or lacks what it has to carry."""


class NoMetadataError(ArtifactError):
    """An artifact is of another program, or its end, where this one's metadata is, is cut off."""


class WeightMapError(SignBartError):
    """The weight map does not pair a PyTorch model and a Keras model completely."""


class RuntimeInputError(SignBartError):
    """Arrays do not fit what a model takes: names, shapes, dtypes, or the mask's contents."""


class MemoryShortageError(SignBartError):
    """There was too little memory: not the fault of the file that was being read."""
