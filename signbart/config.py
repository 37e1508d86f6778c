"""What a run is: frozen dataclasses read from YAML, every key checked.

Two forms of file load:

* sections ``model``, ``data``, ``augment``, ``train``, each a dataclass below
  (``model`` may name another kind of model than SignBART: ``model: sign_transformer``, or with
  sizes ``model: {kind: sign_transformer, …}``);
* the field's flat form, as published SignBART configurations are written: the keys of
  `ModelConfig` at the top level. Its landmark layout is the smallest one that holds every joint
  index; recordings that disagree are refused when they are read.

Errors name the file and the key, and for a misspelt key the nearest known one.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from signbart.errors import ConfigError
from signbart.layouts import LAYOUTS, get_layout, smallest_image_layout
from signbart.zoo_config import MediapipeGruConfig, SignTransformerConfig

NORMALIZATIONS = {
    "bbox": "each group into its bounding box, missing (0, 0) points counted (published, PyTorch)",
    "bbox_ignore_missing": "each group into the box of its detected points (published, on device)",
    "body_centred": "3-D joints in metres: neck at the origin, facing the camera, torso length 1",
}
SCHEDULERS = ("cosine", "plateau", "constant")
PRECISIONS = ("float32", "bf16")

# What both implementations of the model agree on.
#
# Added to an attention score to forbid it. Finite and small on purpose: finfo.min overflows when
# two biases are added and gives static int8 a scale that flattens every other score, while
# exp(-100) already lies below the smallest normal float32.
MASK_BIAS = -100.0
# BART keeps two rows in front of the positions (padding and a legacy offset); published
# checkpoints have them.
POSITION_OFFSET = 2
LAYER_NORM_EPSILON = 1e-5  # PyTorch's default, which the published checkpoints were trained with

# BART's standard deviation for new embeddings. PyTorch's is 1, against which the projected
# coordinates are small: after 5 epochs on isl_kinect30 without S04 (seed 0, dropout 0.1) training
# accuracy was 55 % with 1 and 75 % with 0.02.
POSITION_INIT_STD = 0.02

# In published files and read by nothing, there or here: BART's layer drop is never applied.
_IGNORED_MODEL_KEYS = ("encoder_layerdrop", "decoder_layerdrop")


def _range(low: float, high: float, *, open_high: bool = False) -> dict[str, Any]:
    return {"low": low, "high": high, "open_high": open_high}


def _positive() -> dict[str, Any]:
    return _range(1, float("inf"))


_PROBABILITY = _range(0.0, 1.0, open_high=True)
_SHARE = _range(0.0, 1.0)
_NOT_NEGATIVE = _range(0.0, float("inf"), open_high=True)


@dataclass(frozen=True)
class ModelConfig:
    """The network. Attribute names and defaults are the published configuration's.

    Attributes:
        joint_idx: Indices into the landmark layout that the model sees, in order; K = their number.
            None in a file means every landmark of the layout.
        num_labels: Number of classes C. None means as many as the data set has.
        pe: Kind of position embedding; only ``learn`` exists.
    """

    joint_idx: tuple[int, ...] | None = None
    num_labels: int | None = field(default=None, metadata=_positive())
    d_model: int = field(default=144, metadata=_positive())
    encoder_layers: int = field(default=2, metadata=_positive())
    decoder_layers: int = field(default=2, metadata=_positive())
    encoder_attention_heads: int = field(default=8, metadata=_positive())
    decoder_attention_heads: int = field(default=8, metadata=_positive())
    encoder_ffn_dim: int = field(default=144, metadata=_positive())
    decoder_ffn_dim: int = field(default=144, metadata=_positive())
    max_position_embeddings: int = field(default=256, metadata=_positive())
    dropout: float = field(default=0.1, metadata=_PROBABILITY)
    activation_dropout: float = field(default=0.1, metadata=_PROBABILITY)
    attention_dropout: float = field(default=0.0, metadata=_PROBABILITY)
    classifier_dropout: float = field(default=0.1, metadata=_PROBABILITY)
    pe: str = field(default="learn", metadata={"choices": ("learn",)})

    @property
    def num_keypoints(self) -> int:
        """K, the number of landmarks that the model sees."""
        if self.joint_idx is None:
            raise ConfigError("model.joint_idx is not set: load the file with load_config()")
        return len(self.joint_idx)


@dataclass(frozen=True)
class DataConfig:
    """The preprocessing contract, which travels with every checkpoint and artifact.

    Attributes:
        layout: Name of the recordings' landmark layout (`signbart.layouts.LAYOUTS`).
        max_frames: Longest clip T, in frames; longer clips are resampled uniformly.
        normalization: One of `NORMALIZATIONS`.
        categories: Class -> its category, for models that tell those too; every class, or none.
    """

    layout: str = "kp90"
    max_frames: int = field(default=64, metadata=_positive())
    normalization: str = field(default="bbox", metadata={"choices": tuple(NORMALIZATIONS)})
    categories: dict[str, str] = field(default_factory=dict, hash=False)

    @property
    def category_names(self) -> tuple[str, ...]:
        """The categories, in the order of a model's outputs: the alphabet's."""
        return tuple(sorted(set(self.categories.values())))


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes to training clips, drawn anew each epoch.

    Attributes:
        probability: Share of clips that are changed at all; 0 switches augmentation off.
        rotation_degrees: Rotation about the clip's centre, uniform in ± this many degrees.
        noise: Standard deviation of Gaussian noise on detected points, in the unit of the plane:
            image sizes, or torso lengths where bodies are centred.
        drop_frames: Up to this share of a clip's frames is dropped; one frame always stays.
        time_warp: Speed changes by a factor uniform in [1 - this, 1 + this].
        flip: Share of the changed clips that are mirrored, left and right exchanged.
    """

    probability: float = field(default=0.4, metadata=_SHARE)
    rotation_degrees: float = field(default=15.0, metadata=_range(0.0, 180.0))
    noise: float = field(default=0.005, metadata=_NOT_NEGATIVE)
    drop_frames: float = field(default=0.3, metadata=_PROBABILITY)
    time_warp: float = field(default=0.3, metadata=_PROBABILITY)
    flip: float = field(default=0.0, metadata=_SHARE)


@dataclass(frozen=True)
class TrainConfig:
    """Optimisation.

    Attributes:
        seed: The run's only source of randomness.
        batch_size: Clips a step, over all processes.
        lr: Peak learning rate of AdamW.
        warmup_epochs: Epochs of linear warm-up; whole ones for ``plateau``.
        scheduler: One of `SCHEDULERS`, after the warm-up.
        plateau_factor: ``plateau`` multiplies the rate by this …
        plateau_patience: … after this many epochs without a lower validation loss.
        patience: Early stopping after this many epochs without improvement; 0 switches it off.
        grad_clip: Largest gradient norm; 0 switches clipping off.
        val_signers: Signers held out of training to choose the best epoch by, never the test
            signers. Where too few signers exist, `val_fraction` of the clips stands in.
        val_fraction: Share of training clips, stratified by class. With `val_signers` 0 and this 0
            nothing is held out: the last epoch is the best one.
        precision: ``float32`` or ``bf16`` (automatic mixed precision).
    """

    seed: int = field(default=0, metadata=_range(0, 2**32 - 1))
    epochs: int = field(default=60, metadata=_positive())
    batch_size: int = field(default=64, metadata=_positive())
    lr: float = field(default=1e-3, metadata=_NOT_NEGATIVE)
    weight_decay: float = field(default=0.01, metadata=_NOT_NEGATIVE)
    warmup_epochs: float = field(default=3.0, metadata=_NOT_NEGATIVE)
    scheduler: str = field(default="cosine", metadata={"choices": SCHEDULERS})
    plateau_factor: float = field(default=0.1, metadata=_range(0.0, 1.0, open_high=True))
    plateau_patience: int = field(default=5, metadata=_range(0, float("inf")))
    label_smoothing: float = field(default=0.1, metadata=_PROBABILITY)
    grad_clip: float = field(default=1.0, metadata=_NOT_NEGATIVE)
    patience: int = field(default=20, metadata=_range(0, float("inf")))
    val_signers: int = field(default=1, metadata=_range(0, float("inf")))
    val_fraction: float = field(default=0.1, metadata=_PROBABILITY)
    precision: str = field(default="float32", metadata={"choices": PRECISIONS})


ZooConfig = SignTransformerConfig | MediapipeGruConfig

# ``model.kind`` -> what configures it; SignBART where a file names none.
MODEL_CONFIGS: dict[str, type] = {
    "signbart": ModelConfig,
    "sign_transformer": SignTransformerConfig,
    "mediapipe_gru": MediapipeGruConfig,
}


@dataclass(frozen=True)
class RunConfig:
    """Everything that determines a run, apart from the data.

    Attributes:
        name: What artifacts are called; the file's name by default.
    """

    name: str = "signbart"
    model: ModelConfig | ZooConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, for YAML and checkpoint headers; `from_dict` reads them back."""
        tree = dataclasses.asdict(self)
        if not isinstance(self.model, ModelConfig):
            tree["model"] = {"kind": self.kind, **tree["model"]}
        elif self.model.joint_idx is not None:
            tree["model"]["joint_idx"] = list(self.model.joint_idx)
        return tree

    @property
    def kind(self) -> str:
        """Which of `MODEL_CONFIGS` the model is."""
        return next(kind for kind, cls in MODEL_CONFIGS.items() if type(self.model) is cls)

    @property
    def joint_idx(self) -> tuple[int, ...]:
        """Indices into the layout that the model sees; all of them where it does not choose."""
        if isinstance(self.model, ModelConfig):
            return self.model.joint_idx
        return tuple(range(get_layout(self.data.layout).num_keypoints))

    @property
    def num_keypoints(self) -> int:
        """K, the number of landmarks that the model sees."""
        return len(self.joint_idx)

    @property
    def takes_features(self) -> bool:
        """Whether the model takes one vector a frame, x and y by turns, and not (K, 2)."""
        return not isinstance(self.model, ModelConfig)


SECTIONS: dict[str, type] = {
    "model": ModelConfig,
    "data": DataConfig,
    "augment": AugmentConfig,
    "train": TrainConfig,
}


class _Loader(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error; PyYAML's own takes the last silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                problem = f"key '{key.value}' stands more than once"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        return super().construct_mapping(node, deep=deep)


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Reads a run's configuration.

    Args:
        path: YAML file, in sections or in the field's flat form.
        overrides: ``section.key=value`` or ``name=value`` texts, later ones winning; values are
            YAML.

    Raises:
        ConfigError: The file cannot be read, or a key or value is wrong; names file and key.
    """
    try:
        tree = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise ConfigError(f"cannot read configuration {path}: {error.strerror}") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, or an impossible date
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    tree = {} if tree is None else tree
    return from_dict(tree, source=str(path), overrides=overrides, name=Path(path).stem)


def from_dict(
    tree: Any, *, source: str, overrides: Sequence[str] = (), name: str = "signbart"
) -> RunConfig:
    """Builds and checks a `RunConfig` from plain containers.

    Args:
        tree: What `load_config` reads from a file, or `RunConfig.to_dict` returns.
        source: Where it came from, for error messages.
        overrides: As in `load_config`.
        name: The run's name where `tree` has none.

    Raises:
        ConfigError: A key or value is wrong.
    """
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{source}: expected keys and values, found {type(tree).__name__}")
    tree = dict(tree)
    name = tree.pop("name", name)
    for override in (text for text in overrides if _key(text) == "name"):
        name, source = override.partition("=")[2].strip(), _with_set(source)
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ConfigError(
            f"{source}: name is {name!r}; artifacts are named by it, so it must consist of "
            "letters, digits, '.', '_' and '-'"
        )
    tree = _in_sections(tree, source)
    for override in (text for text in overrides if _key(text) != "name"):
        source = _apply_override(tree, override, source)
    kind = tree.get("model", {}).pop("kind", "signbart")
    if kind not in MODEL_CONFIGS:
        raise ConfigError(
            f"{source}: model.kind is {kind!r}; it must be one of: {', '.join(MODEL_CONFIGS)}"
        )
    classes = {**SECTIONS, "model": MODEL_CONFIGS[kind]}
    sections = {
        key: _build_section(cls, tree.get(key), key, source) for key, cls in classes.items()
    }
    return _check_across(RunConfig(name=name, **sections), source)


def model_from_dict(values: Mapping[str, Any], *, source: str) -> ModelConfig:
    """Builds and checks a `ModelConfig` alone, without a landmark layout to check it against."""
    return _build_section(ModelConfig, values, "model", source)


def _in_sections(tree: Mapping[str, Any], source: str) -> dict[str, dict[str, Any]]:
    """A copy of `tree` in sections; a flat file becomes its ``model`` section."""
    unknown = [key for key in tree if key not in SECTIONS]
    model_keys = {f.name for f in dataclasses.fields(ModelConfig)} | set(_IGNORED_MODEL_KEYS)
    # A misspelt section must not turn the file into a flat one, so one familiar key decides.
    if any(key in model_keys for key in unknown):
        if len(unknown) < len(tree):
            raise ConfigError(
                f"{source}: key '{unknown[0]}' stands beside sections; move it into 'model:'"
            )
        flat = dict(tree)
        # Published files say both sides; one that leaves the decoder out means it to be alike.
        for size in ("layers", "attention_heads", "ffn_dim"):
            if f"encoder_{size}" in flat:
                flat.setdefault(f"decoder_{size}", flat[f"encoder_{size}"])
        data: dict[str, Any] = {}
        joints = _flatten(flat.get("joint_idx"))
        if isinstance(joints, list) and joints and all(type(j) is int for j in joints):
            layout = smallest_image_layout(max(joints))
            if layout is not None:
                data["layout"] = layout.name
        return {"model": flat, "data": data}
    if unknown:
        raise ConfigError(f"{source}: {_unknown_key(str(unknown[0]), list(SECTIONS))}")
    if isinstance(tree.get("model"), str):
        tree = {**tree, "model": {"kind": tree["model"]}}
    for name, section in tree.items():
        if section is not None and not isinstance(section, Mapping):
            raise ConfigError(f"{source}: '{name}' must hold keys and values, found {section!r}")
    return {name: dict(section or {}) for name, section in tree.items()}


def _with_set(source: str) -> str:
    return source if "with --set" in source else f"{source} with --set"


def _key(override: str) -> str:
    return override.partition("=")[0].strip()


def _apply_override(tree: dict[str, dict[str, Any]], override: str, source: str) -> str:
    """Sets one ``section.key=value`` in `tree`; returns the source text that now describes it."""
    key, equals, text = override.partition("=")
    section, dot, name = key.strip().partition(".")
    if not equals or not dot or not name:
        raise ConfigError(f"--set {override!r}: expected section.key=value, as in train.epochs=3")
    if section not in SECTIONS:
        raise ConfigError(f"--set {override!r}: {_unknown_key(section, list(SECTIONS))}")
    try:
        value = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError):
        raise ConfigError(f"--set {override!r}: the value is not valid YAML") from None
    tree.setdefault(section, {})[name] = value
    return _with_set(source)


def _build_section(cls: type, values: Mapping[str, Any] | None, section: str, source: str) -> Any:
    """Builds one dataclass, checking names, types and ranges."""
    values = dict(values or {})
    if cls is ModelConfig:
        for key in _IGNORED_MODEL_KEYS:
            values.pop(key, None)
    elif section == "model":
        values.setdefault("num_labels", None)  # the data says, and not the published checkpoints
    fields = {f.name: f for f in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    checked = {}
    for key, value in values.items():
        if key not in fields:
            raise ConfigError(f"{source}: {_unknown_key(f'{section}.{key}', fields)}")
        where = f"{source}: {section}.{key}"
        value = _coerce(value, hints[key], where)
        _check_range(value, fields[key].metadata, where)
        checked[key] = value
    config = cls(**checked)
    if cls is ModelConfig:
        _check_heads(config, source)
    return config


def _coerce(value: Any, hint: Any, where: str) -> Any:
    """Returns `value` as the annotated type, or raises; int is taken for float, nothing else."""
    if isinstance(hint, types.UnionType):
        if value is None:
            return None
        hint = next(arm for arm in typing.get_args(hint) if arm is not type(None))
    if hint is float and type(value) is str:
        # YAML 1.1 reads 1e-3, without a dot, as text.
        try:
            return float(value)
        except ValueError:
            pass
    if hint is float and type(value) in (int, float):
        return float(value)
    if typing.get_origin(hint) is tuple:
        return _coerce_indices(value, where)
    if typing.get_origin(hint) is dict:
        return _coerce_texts(value, where)
    if type(value) is not hint:
        raise ConfigError(
            f"{where} must be {hint.__name__}, found {value!r} ({type(value).__name__})"
        )
    return value


def _flatten(indices: Any) -> Any:
    """Joins a list of lists, one a group, as published files nest them; else `indices` itself."""
    if isinstance(indices, (list, tuple)) and all(isinstance(i, (list, tuple)) for i in indices):
        return [index for group in indices for index in group]
    return indices


def _coerce_indices(value: Any, where: str) -> tuple[int, ...]:
    """A list of indices, or of groups of them."""
    value = _flatten(value)
    if not isinstance(value, (list, tuple)) or not value:
        raise ConfigError(f"{where} must be a list of landmark indices, found {value!r}")
    for index in value:
        if type(index) is not int:
            raise ConfigError(f"{where} must hold whole numbers, found {index!r}")
    if len(set(value)) != len(value):
        twice = next(index for index in value if list(value).count(index) > 1)
        raise ConfigError(f"{where} lists index {twice} more than once")
    return tuple(value)


def _coerce_texts(value: Any, where: str) -> dict[str, str]:
    """Text -> text; null stands for none at all."""
    if not isinstance(value, Mapping | None):
        raise ConfigError(f"{where} must hold keys and values, found {value!r}")
    for pair in (value or {}).items():
        for text in pair:
            if type(text) is not str:
                raise ConfigError(f"{where} must pair texts, found {text!r}; put it in quotes")
    return dict(value or {})


def _check_range(value: Any, limits: Mapping[str, Any], where: str) -> None:
    if value is None:
        return
    if "choices" in limits and value not in limits["choices"]:
        known = ", ".join(limits["choices"])
        raise ConfigError(f"{where} is {value!r}; it must be one of: {known}")
    if "low" in limits:
        low, high, open_high = limits["low"], limits["high"], limits["open_high"]
        if not (low <= value < high or (value == high and not open_high)):
            interval = (
                f"at least {low:g}{' and finite' if open_high else ''}"
                if high == float("inf")
                else f"in [{low:g}, {high:g}{')' if open_high else ']'}"
            )
            raise ConfigError(f"{where} is {value!r}; it must be {interval}")


def _check_heads(model: ModelConfig, source: str) -> None:
    for side in ("encoder", "decoder"):
        heads = getattr(model, f"{side}_attention_heads")
        if model.d_model % heads:
            raise ConfigError(
                f"{source}: model.d_model ({model.d_model}) is not divisible by "
                f"model.{side}_attention_heads ({heads})"
            )


def _check_across(config: RunConfig, source: str) -> RunConfig:
    """Fills in ``joint_idx`` and checks what spans sections."""
    try:
        layout = get_layout(config.data.layout)
    except ConfigError as error:
        raise ConfigError(f"{source}: data.layout: {error}") from None
    model, data = config.model, config.data
    if isinstance(model, ModelConfig):
        if model.joint_idx is None:
            model = dataclasses.replace(model, joint_idx=tuple(range(layout.num_keypoints)))
            config = dataclasses.replace(config, model=model)
        for index in model.joint_idx:
            if not 0 <= index < layout.num_keypoints:
                raise ConfigError(
                    f"{source}: model.joint_idx holds {index}, but layout '{layout.name}' has "
                    f"landmarks 0 to {layout.num_keypoints - 1}; choose another data.layout or "
                    "index"
                )
        limit, said_by = model.max_position_embeddings, "model.max_position_embeddings"
    else:
        if model.num_features != 2 * layout.num_keypoints:
            wanted = model.num_features
            fitting = [n for n, of in LAYOUTS.items() if 2 * of.num_keypoints == wanted]
            raise ConfigError(
                f"{source}: model.num_features is {wanted}, but layout "
                f"'{layout.name}' has x and y of {layout.num_keypoints} landmarks, "
                f"{2 * layout.num_keypoints} numbers; layouts that fit: "
                f"{', '.join(fitting) or 'none'}"
            )
        limit, said_by = model.longest, "the frames that the model has positions for"
    if limit is not None and data.max_frames > limit:
        raise ConfigError(
            f"{source}: data.max_frames ({data.max_frames}) is more than {said_by} ({limit})"
        )
    _check_categories(config, source)
    wanted = "metres" if data.normalization == "body_centred" else "image"
    if layout.unit != wanted:
        raise ConfigError(
            f"{source}: data.normalization '{data.normalization}' is for landmarks in {wanted} "
            f"coordinates, but layout '{layout.name}' is in {layout.unit} coordinates"
        )
    return config


def _check_categories(config: RunConfig, source: str) -> None:
    found = len(config.data.category_names)
    if not found:
        return
    if isinstance(config.model, ModelConfig):
        raise ConfigError(f"{source}: data.categories is given, but SignBART tells classes only")
    if found != config.model.num_categories:
        raise ConfigError(
            f"{source}: data.categories names {found} categories "
            f"({', '.join(config.data.category_names)}), but model.num_categories is "
            f"{config.model.num_categories}; set that to {found}"
        )


def _unknown_key(key: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    """The text of an unknown-key error with the nearest known key."""
    near = difflib.get_close_matches(key.rpartition(".")[2], list(known), n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else "known: " + ", ".join(known)
    return f"unknown key '{key}'; {hint}"
