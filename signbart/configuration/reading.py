"""What a run is: frozen dataclasses read from YAML, every key checked.

Two forms of file load:

* sections ``model``, ``data``, ``augment``, ``train``, each a dataclass below
  (``model`` may name another kind of model than SignBART: ``model: sign_transformer``, or with
  sizes ``model: {kind: sign_transformer, …}``);
* the field's flat form, as published SignBART configurations are written: the keys of
  SignBART's configuration at the top level. Its landmark layout is the smallest one that holds
  every joint index; recordings that disagree are refused when they are read.

Errors name the file and the key, and for a misspelt key the nearest known one.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from signbart.configuration.augmentation import check_augmentation
from signbart.configuration.schema import SECTIONS, RunConfig
from signbart.configuration.shipped import find_config
from signbart.configuration.values import check_range, coerce, flatten, shown
from signbart.errors import ConfigError
from signbart.landmarks.layouts import LAYOUTS, smallest_image_layout
from signbart.landmarks.own_layout import describe_layout
from signbart.landmarks.source_file import read_source_layout
from signbart.models import DEFAULT_KIND, MODEL_KINDS, kind_of
from signbart.yaml_files import parse_yaml, read_yaml


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Reads a run's configuration.

    Args:
        path: YAML file, in sections or in the field's flat form; or the name of a shipped one, see
            `shipped.find_config`.
        overrides: ``section.key=value`` or ``name=value`` texts, later ones winning; values are
            YAML.

    Raises:
        ConfigError: The file cannot be read, or a key or value is wrong; names file and key.
    """
    path = find_config(path)
    try:
        tree = read_yaml(path)
    except OSError as error:
        raise ConfigError(f"cannot read configuration {path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    tree = {} if tree is None else tree
    tree, overrides = _with_own_layout(tree, overrides, str(path))
    return from_dict(tree, source=str(path), overrides=overrides, name=path.stem)


def _with_own_layout(tree: Any, overrides: Sequence[str], source: str) -> tuple[Any, Sequence[str]]:
    """Reads the file that ``data.layout`` may name; a checkpoint's header names none."""
    named = [text for text in overrides if _key(text) == "data.layout"]
    data = tree.get("data") if isinstance(tree, Mapping) else None
    given = data.get("layout") if isinstance(data, Mapping) else None
    name = named[-1].partition("=")[2].strip() if named else given
    if not isinstance(name, str) or Path(name).suffix not in (".yaml", ".yml"):
        return tree, overrides
    if not isinstance(tree, Mapping):
        return tree, overrides  # which `from_dict` refuses
    landmarks, flip_pairs = describe_layout(read_source_layout(Path(name)))
    # A flat file has no section that this could go into.
    sections = _in_sections({key: tree[key] for key in tree if key != "name"}, source)
    data = sections.get("data", {})
    data |= {"layout": Path(name).stem, "landmarks": landmarks, "flip_pairs": flip_pairs}
    run = {"name": tree["name"]} if "name" in tree else {}
    return {**run, **sections, "data": data}, [text for text in overrides if text not in named]


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
            f"{source}: name is {shown(name)}; artifacts are named by it, so it must consist of "
            "letters, digits, '.', '_' and '-'"
        )
    tree = _in_sections(tree, source)
    for override in (text for text in overrides if _key(text) != "name"):
        source = _apply_override(tree, override, source)
    kind = tree.get("model", {}).pop("kind", DEFAULT_KIND.name)
    if kind not in MODEL_KINDS:
        raise ConfigError(
            f"{source}: model.kind is {shown(kind)}; it must be one of: {', '.join(MODEL_KINDS)}"
        )
    classes = {**SECTIONS, "model": MODEL_KINDS[kind].config}
    sections = {
        key: _build_section(cls, tree.get(key), key, source) for key, cls in classes.items()
    }
    return _check_across(RunConfig(name=name, **sections), source)


def model_from_dict(
    values: Mapping[str, Any], *, source: str, kind: str = DEFAULT_KIND.name
) -> Any:
    """Builds and checks a model's configuration alone, without a landmark layout to check against.

    Args:
        values: Its fields.
        source: Where they came from, for error messages.
        kind: Which of `MODEL_KINDS` it is.

    Raises:
        ConfigError: A key or value is wrong.
    """
    return _build_section(MODEL_KINDS[kind].config, values, "model", source)


def _in_sections(tree: Mapping[str, Any], source: str) -> dict[str, dict[str, Any]]:
    """A copy of `tree` in sections; a flat file becomes its ``model`` section."""
    unknown = [key for key in tree if key not in SECTIONS]
    model_keys = {f.name for f in dataclasses.fields(DEFAULT_KIND.config)} | {
        *DEFAULT_KIND.ignored_keys
    }
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
        joints = flatten(flat.get("joint_idx"))
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
            raise ConfigError(
                f"{source}: '{name}' must hold keys and values, found {shown(section)}"
            )
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
        value = parse_yaml(text)
    except yaml.YAMLError:
        raise ConfigError(f"--set {override!r}: the value is not valid YAML") from None
    tree.setdefault(section, {})[name] = value
    return _with_set(source)


def _build_section(cls: type, values: Mapping[str, Any] | None, section: str, source: str) -> Any:
    """Builds one dataclass, checking names, types and ranges."""
    values = dict(values or {})
    if section == "model":
        for kind in MODEL_KINDS.values():
            for key in kind.ignored_keys if cls is kind.config else ():
                values.pop(key, None)
        values.setdefault("num_labels", None)  # the data says, and not the published checkpoints
    fields = {f.name: f for f in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    checked = {}
    for key, value in values.items():
        if key not in fields:
            raise ConfigError(f"{source}: {_unknown_key(f'{section}.{key}', fields)}")
        where = f"{source}: {section}.{key}"
        value = coerce(value, hints[key], where)
        check_range(value, fields[key].metadata, where)
        checked[key] = value
    try:
        return cls(**checked)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None


def _check_across(config: RunConfig, source: str) -> RunConfig:
    """Fills in ``joint_idx`` and checks what spans sections."""
    try:
        layout = config.data.landmark_layout
    except ConfigError as error:
        raise ConfigError(f"{source}: data.layout: {error}") from None
    kind, data = kind_of(config.model), config.data
    config = dataclasses.replace(config, model=kind.check(config.model, layout, source))
    limit = kind.io_spec(config.model, None, None).longest
    if limit is not None and data.max_frames > limit:
        raise ConfigError(
            f"{source}: data.max_frames ({data.max_frames}) is more than {kind.length_key} "
            f"({limit})"
        )
    if config.coordinates == 3 and layout.unit != "metres":
        remedy = " or set model.coordinates to 2" if kind.coordinates is None else ""
        raise ConfigError(
            f"{source}: model '{kind.name}' sees x, y and z, but layout '{layout.name}' is in "
            f"image coordinates and has no depth; choose a data.layout in metres{remedy}"
        )
    if config.train.accumulate > config.train.batch_size:
        raise ConfigError(
            f"{source}: train.accumulate ({config.train.accumulate}) is more than "
            f"train.batch_size ({config.train.batch_size}): a part has one clip at least"
        )
    _check_categories(config, source)
    check_augmentation(config, source)
    own_name = data.layout not in LAYOUTS and re.fullmatch(r"[\w.-]{1,64}", data.layout)
    if data.landmarks and not own_name:
        raise ConfigError(
            f"{source}: data.landmarks describes a layout of one's own; data.layout must name it "
            f"by letters, digits, '.', '_' and '-', and not as one of {', '.join(LAYOUTS)}"
        )
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
    if not hasattr(config.model, "num_categories"):
        title = kind_of(config.model).title
        raise ConfigError(f"{source}: data.categories is given, but {title} tells classes only")
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
