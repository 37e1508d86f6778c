"""Checkpoints as the libraries write them: each reads as the model it came from, none runs code."""

import argparse
import dataclasses
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn

from signbart.configuration.schema import DataConfig, RunConfig
from signbart.errors import CheckpointError
from signbart.models.signbart import SignBartConfig
from signbart.weights.stored import form_of, parse_header, read_stored
from signbart_torch.models import new_model
from signbart_torch.models.signbart.model import SignBart
from signbart_torch.training.checkpoint import Checkpoint, load_model, save_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore")

SIZES = SignBartConfig(
    joint_idx=(0, 1, 2, 3), d_model=16, encoder_layers=2, decoder_layers=1,
    encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=20,
    max_position_embeddings=20, num_labels=3,
)  # fmt: skip


@pytest.fixture(scope="module")
def network() -> SignBart:
    torch.manual_seed(3)
    model = SignBart(SIZES).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def lightning(model, path):
    """By PyTorch Lightning itself: a module that holds the network, something else beside it."""
    import pytorch_lightning

    class Module(pytorch_lightning.LightningModule):
        def __init__(self, rate=0.0, layers=(1, 2)):
            super().__init__()
            self.save_hyperparameters()
            self.model = model
            self.metric = nn.Linear(2, 2)

        def training_step(self, batch, index):
            return (self.metric(batch[0]) * 0).sum()

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), lr=self.hparams.rate, weight_decay=0.0)

    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.zeros(2, 2)))
    trainer = pytorch_lightning.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Module(), data)
    trainer.save_checkpoint(path)


def accelerated(model, path):
    """By Accelerate itself, which writes a folder with a .safetensors in it."""
    import accelerate

    accelerator = accelerate.Accelerator(cpu=True)
    accelerator.save_model(accelerator.prepare(model), path.parent)


def training_loop(model, path):
    optimizer = torch.optim.AdamW(model.parameters())
    torch.save(
        {"model_state_dict": model.state_dict(), "optimizer_state_dict": optimizer.state_dict(),
         "args": argparse.Namespace(x=1), "epoch": 7},
        path,
    )  # fmt: skip


def averaged(model, path):
    """torch.optim.swa_utils: behind ``module.``, with a counter beside."""
    torch.save(torch.optim.swa_utils.AveragedModel(model).state_dict(), path)


def timm(model, path):
    """The keys of timm's CheckpointSaver, which wants another PyTorch than this project.

    Of the plain weights nothing may be taken.
    """
    other = {name: tensor + 1 for name, tensor in model.state_dict().items()}
    torch.save({"arch": "x", "state_dict": other, "state_dict_ema": model.state_dict()}, path)


def tensors_only(model, path):
    save_file({name: t.contiguous() for name, t in model.state_dict().items()}, path)


def legacy(model, path):
    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=False)


FORMS = {
    "bare.pth": lambda m, p: torch.save(m.state_dict(), p),
    "model.pt": lambda m, p: torch.save({"model": m.state_dict()}, p),
    "state_dict.bin": lambda m, p: torch.save({"state_dict": m.state_dict()}, p),
    "loop.tar": training_loop,
    "lightning.ckpt": lightning,
    "parallel.pth": lambda m, p: torch.save(nn.DataParallel(m).state_dict(), p),
    "compiled.pth": lambda m, p: torch.save(torch.compile(m).state_dict(), p),
    "both.pth": lambda m, p: torch.save({"net": nn.DataParallel(torch.compile(m)).state_dict()}, p),
    "averaged.pth": averaged,
    "timm.pth.tar": timm,
    "whole_module": lambda m, p: torch.save(m, p),
    "legacy.pth": legacy,
    "bare.safetensors": tensors_only,
    "saved.safetensors": lambda m, p: save_model(m, str(p)),
    "model.safetensors": accelerated,
    "no_ending": lambda m, p: torch.save(m.state_dict(), p),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_reads_as_the_model_it_came_from(tmp_path, network, name):
    FORMS[name](network, tmp_path / name)
    stored = read_stored(tmp_path / name)
    expected = network.state_dict()
    assert stored.tensors.keys() == expected.keys() and stored.config is None
    for key, tensor in expected.items():
        np.testing.assert_array_equal(stored.tensors[key], tensor.numpy())
        assert stored.tensors[key].dtype == tensor.numpy().dtype


@pytest.mark.parametrize(
    ("dtype", "what"),
    [(torch.float16, "float16"), (torch.bfloat16, "bfloat16"), (torch.float64, "float64")],
)
@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_other_precisions_are_cast_and_said(tmp_path, network, dtype, what, ending):
    state = {name: tensor.to(dtype) for name, tensor in network.state_dict().items()}
    path = tmp_path / f"x.{ending}"
    (save_file if ending == "safetensors" else torch.save)(state, path)
    stored = read_stored(path)
    assert f"{len(state)} tensors cast from {what} to float32" in stored.notes
    for name, tensor in state.items():
        np.testing.assert_array_equal(stored.tensors[name], tensor.float().numpy())


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


@pytest.mark.parametrize("legacy_form", [False, True])
def test_what_stands_beside_the_weights_is_not_run(tmp_path, network, legacy_form):
    content = {"model": network.state_dict(), "callback": Hostile(tmp_path / "executed")}
    path = tmp_path / "x.pth"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy_form)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)  # the attack is one
    stored = read_stored(path)
    assert not (tmp_path / "executed").exists()
    np.testing.assert_array_equal(
        stored.tensors["encoder.layers.0.fc1.bias"],
        network.state_dict()["encoder.layers.0.fc1.bias"].numpy(),
    )
    torch.load(path, weights_only=False)
    assert (tmp_path / "executed").exists(), "an attack that does nothing proves nothing"


# Pickles that reach for NumPy's own memory


def crafted(path, body: bytes, length: int = 1000):
    """An archive as torch.save's, with one storage of `length` sevens and this pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", b"\x80\x02" + body + b".")
        archive.writestr("x/data/0", np.full(length, 7, np.float32).tobytes())
    return path


def text(value: str) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


def whole(*values: int) -> bytes:
    return b"".join(b"J" + value.to_bytes(4, "little", signed=True) for value in values)


def storage(length: int) -> bytes:
    return (b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu")
            + whole(length) + b"tQ")  # fmt: skip


def tensor(of: bytes, offset: int, size: int, stride: int) -> bytes:
    return (b"ctorch._utils\n_rebuild_tensor_v2\n(" + of + whole(offset) + b"(" + whole(size)
            + b"t(" + whole(stride) + b"t\x89tR")  # fmt: skip


def test_crafted_pickles_are_made_as_torch_reads_them(tmp_path):
    body = b"}" + text("w") + tensor(storage(1000), 3, 500, 1) + b"s"
    found = read_stored(crafted(tmp_path / "x.pt", body)).tensors["w"]
    np.testing.assert_array_equal(found, np.full(500, 7))


_STATE = b"(" + whole(1) + b"(" + whole(1) + b"tctorch\nFloatStorage\n\x89C\x04\0\0\0\0t"
MEMORY = {
    # A view of stride 0 as the storage of another, which would reach beyond the first one's memory.
    "beyond": b"}" + text("w") + tensor(tensor(storage(1000), 999, 1000, 0), 0, 1000, 1) + b"s",
    # The storage's memory is exchanged while a tensor looks at it.
    "freed": b"}" + text("w") + b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage(1000)
    + b"q\x05" + whole(0) + b"(" + whole(1000) + b"t(" + whole(1) + b"t\x89tRs" + text("z")
    + b"h\x05" + _STATE + b"bs",
    # What all files share is changed.
    "shared": b"}" + text("x") + b"ctorch\nBFloat16Storage\n(" + whole(3) + text("|")
    + b"NNN" + whole(1000000) + whole(1) + whole(0) + b"tbs",
    "numbered": b"}p300000000\n",
    "itself": b"}q\x01" + text("model") + b"h\x01s",
    # A module that is its own child, twice.
    "module": b"cx\nM\n)\x81q\x01}" + text("_modules") + b"}(" + text("a") + b"h\x01" + text("b")
    + b"h\x01usb",
    "hollow": b"ccollections\nOrderedDict\n)R}" + text("items") + b"cx\nM\n)\x81sb",
}  # fmt: skip


@pytest.mark.parametrize("name", MEMORY)
def test_pickles_that_reach_for_memory_are_refused(tmp_path, name):
    with pytest.raises(CheckpointError, match=r"x\.pt"):
        read_stored(crafted(tmp_path / "x.pt", MEMORY[name]))
    state = {"w": torch.arange(5, dtype=torch.bfloat16)}
    torch.save(state, tmp_path / "sound.pt")
    np.testing.assert_array_equal(read_stored(tmp_path / "sound.pt").tensors["w"], np.arange(5))


def test_keras_files_that_lie_are_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    (tmp_path / "secret").write_bytes(bytes(200))
    cases = {
        "elsewhere": lambda f: f.create_dataset(
            "w", (200,), "u1", external=[(str(tmp_path / "secret"), 0, 200)]
        ),
        "huge": lambda f: f.create_dataset("w", (10**11,), "f4", chunks=(1000,)),
        "header": lambda f: f.attrs.__setitem__("signbart.json", 5),
    }
    for name, write in cases.items():
        path = tmp_path / f"{name}.h5"
        with h5py.File(path, "w") as file:
            write(file)
        with pytest.raises(CheckpointError, match=rf"{name}\.h5"):
            read_stored(path)


def test_bytes_that_are_not_there_are_damage_and_no_shortage_of_memory(tmp_path):
    path = tmp_path / "old.pth"
    path.write_bytes(b"\x80\x04\x8e" + struct.pack("<Q", 1 << 46) + b"ab.")  # BINBYTES8
    with pytest.raises(CheckpointError, match=r"old\.pth is cut or damaged"):
        read_stored(path)


@pytest.mark.parametrize("name", ["bare.pth", "legacy.pth", "bare.safetensors", "whole_module"])
def test_cut_anywhere_it_is_an_error_that_says_so(tmp_path, network, name):
    FORMS[name](network, tmp_path / name)
    content = (tmp_path / name).read_bytes()
    for share in (0.0, 0.001, 0.1, 0.5, 0.9, 0.999):
        cut = tmp_path / "cut"
        cut.write_bytes(content[: int(share * len(content))])
        with pytest.raises(CheckpointError, match=r"cut.*(is cut|is no checkpoint|damaged|not )"):
            read_stored(cut)


OTHERS = {
    "text": (b"hello\n", "is no checkpoint: neither"),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(64), "is no checkpoint"),
    "empty": (b"", "it is empty"),
    "numbers": (
        pickle.dumps([1, 2, 3]),
        "a pickle, but none of torch.save; nothing in it was executed",
    ),
    "zip": (b"PK\x05\x06" + bytes(18), "is no checkpoint"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_checkpoint_is_called_so(tmp_path, name):
    content, message = OTHERS[name]
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_stored(tmp_path / "x")
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        form_of(tmp_path / "nowhere")


def test_another_models_checkpoint_is_named_with_what_is_missing_and_what_is_not_expected(
    tmp_path, tiny_config
):
    torch.save(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).state_dict(), tmp_path / "x.pth")
    config = dataclasses.replace(
        tiny_config, model=dataclasses.replace(tiny_config.model, num_labels=3)
    )
    with pytest.raises(CheckpointError) as error:
        load_model(tmp_path / "x.pth", config, ("a", "b", "c"))
    text = str(error.value)
    assert "x.pth" in text and "0.weight" in text and "projection.proj_x1.weight" in text


# Keras 2


@pytest.fixture(scope="module")
def keras2(tmp_path_factory):
    """The functional model with random weights, its files, and inputs with its own logits."""
    pytest.importorskip("tf_keras", reason="Keras 2 comes with the extra onnx")
    from tests.signbart.weights.keras2 import functional

    folder = tmp_path_factory.mktemp("keras2")
    config = SignBartConfig(joint_idx=tuple(range(90)), num_labels=10)
    model = functional(config)
    rng = np.random.default_rng(5)
    model.set_weights([w + rng.normal(0, 0.05, w.shape) for w in model.get_weights()])
    keypoints = rng.random((3, 20, 90, 2)).astype(np.float32)
    mask = (np.arange(20) < np.array([20, 7, 1])[:, None]).astype(np.float32)
    # As after a training: with an optimizer and its state.
    model.compile("adam", "mse", run_eagerly=True)
    inputs = {"keypoints": keypoints, "attention_mask": mask}
    model.train_on_batch(inputs, np.zeros((3, config.num_labels), np.float32))
    model.save(folder / "final_model.h5")
    model.save_weights(folder / "last.weights.h5")
    model.save_weights(folder / "weights.h5", save_format="h5")
    logits = model(inputs).numpy()
    weights = sum(w.size for w in model.get_weights()), len(model.get_weights())
    return folder, config, keypoints, mask, logits, weights


@pytest.mark.slow
@pytest.mark.parametrize("name", ["final_model.h5", "last.weights.h5", "weights.h5"])
def test_keras_2s_functional_model_computes_the_same_here(keras2, name):
    folder, config, keypoints, mask, logits, weights = keras2
    assert weights == (773_578, 96)
    stored = read_stored(folder / name)
    model = SignBart(config).eval()
    model.load_state_dict({k: torch.from_numpy(v) for k, v in stored.tensors.items()})
    with torch.no_grad():
        found = model(torch.from_numpy(keypoints), torch.from_numpy(mask).int())
    np.testing.assert_allclose(found.numpy(), logits, atol=2e-5)
    assert np.ptp(logits) > 0.1
    # One square matrix untransposed is another model.
    wrong = dict(stored.tensors)
    key = "encoder.layers.0.self_attn.q_proj.weight"
    wrong[key] = wrong[key].T
    model.load_state_dict({k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in wrong.items()})
    with torch.no_grad():
        other = model(torch.from_numpy(keypoints), torch.from_numpy(mask).int())
    assert np.abs(other.numpy() - logits).max() > 1e-3


SHORT = DataConfig(max_frames=20)
HUGE = {
    "encoder_layers": 900, "decoder_layers": 900, "encoder_ffn_dim": 16_000,
    "decoder_ffn_dim": 16_000, "num_labels": 900_000, "max_position_embeddings": 16_000,
    "d_model": 16_000,
}  # fmt: skip


@pytest.mark.parametrize("size", HUGE)
def test_sizes_that_no_tensor_has_are_refused_before_anything_is_built(
    network, tmp_path, size, monkeypatch
):
    """Both frameworks read through here; the file itself has 20 KB."""
    given = dataclasses.replace(SIZES, **{size: HUGE[size]})
    names = [str(label) for label in range(given.num_labels)]
    path = tmp_path / "huge.safetensors"
    save_checkpoint(
        Checkpoint(network.state_dict(), RunConfig("huge", given, SHORT), tuple(names)), path
    )
    monkeypatch.setattr("signbart_torch.training.checkpoint.new_model", None)
    with pytest.raises(CheckpointError, match=f"does not fit the model.*model.{size} is"):
        load_model(path)


@pytest.mark.parametrize("shape", [(10**9,), (10, 10**8)])
def test_a_tensor_expanded_by_stride_0_is_refused(tmp_path, shape):
    path = tmp_path / "expanded.pth"
    torch.save({"weight": torch.zeros(1).expand(shape)}, path)
    with pytest.raises(CheckpointError, match="a tensor is larger than what is stored of it"):
        read_stored(path)


def test_many_views_of_one_storage_are_not_copied(tmp_path, monkeypatch):
    path = tmp_path / "views.pth"
    storage = torch.zeros(100_000)
    torch.save({f"layers.{at}.weight": storage[:] for at in range(3_000)}, path)
    monkeypatch.setattr("signbart.weights.stored.cast", None)
    with pytest.raises(CheckpointError, match=r"views\.pth has .* would unpack to 1,200,000,000"):
        read_stored(path)


def test_one_long_tensor_does_not_excuse_wide_layers(network, tmp_path, monkeypatch):
    """What Keras, which has no shapes without memory, is kept from."""
    given = dataclasses.replace(SIZES, d_model=16_000)
    tensors = {**network.state_dict(), "stray": torch.zeros(16_000)}
    path = tmp_path / "huge.safetensors"
    save_checkpoint(Checkpoint(tensors, RunConfig("huge", given, SHORT), ("a", "b", "c")), path)
    with pytest.raises(CheckpointError, match=r"it has more than 768,000,000 numbers, but it hold"):
        read_stored(path)


def test_sizes_that_other_tensors_have_build_nothing_either(network, tmp_path, monkeypatch):
    """One long vector excuses every width; the shapes are then compared without memory."""
    given = dataclasses.replace(SIZES, d_model=32, encoder_ffn_dim=16_000)
    tensors = {**network.state_dict(), "stray": torch.zeros(16_000)}
    path = tmp_path / "huge.safetensors"
    save_checkpoint(Checkpoint(tensors, RunConfig("huge", given, SHORT), ("a", "b", "c")), path)
    devices = []

    def noted(config):
        devices.append(torch.get_default_device().type)
        return new_model(config)

    monkeypatch.setattr("signbart_torch.training.checkpoint.new_model", noted)
    with pytest.raises(CheckpointError, match="unexpected: stray"):
        load_model(path)
    assert devices == ["meta"]


def test_numbers_that_pytorch_does_not_take_as_they_are(tmp_path):
    """One that stands alone, and those in another machine's order of bytes."""
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "odd.weights.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("fc/vars/0", data=1.5)
        file.create_dataset("fc/vars/1", data=np.arange(3, dtype=">i8"))
    found = {name: torch.from_numpy(array) for name, array in read_stored(path).tensors.items()}
    assert sorted(tuple(tensor.shape) for tensor in found.values()) == [(), (3,)]


RECORDINGS = {"fingerprint": "ab12", "clips": 3, "test_signers": ["S1"]}


@pytest.mark.parametrize(
    ("progress", "key"),
    [
        ({"recordings": None}, "recordings"),
        ({"recordings": {"clips": 3, "test_signers": None}}, "recordings"),
        ({"recordings": {**RECORDINGS, "fingerprint": None}}, "recordings"),
        ({"recordings": {**RECORDINGS, "clips": "3"}}, "recordings"),
        ({"recordings": {**RECORDINGS, "test_signers": None}}, "recordings"),
        ({"recordings": {**RECORDINGS, "test_signers": "S1"}}, "recordings"),
        ({"recordings": {**RECORDINGS, "test_signers": ["S1", ["S2"]]}}, "recordings"),
        ({"teachers": ["S1"]}, "teachers"),
        ({"teachers": {"seen": [1]}}, "teachers"),
        ({"start": None}, "start"),
        ({"start": ["S1"]}, "start"),
        ({"start": {"seen": "S1"}}, "start"),
        ({"start": {"seen": [1]}}, "start"),
    ],
)
def test_a_header_that_says_of_training_what_nobody_can_use(tmp_path, progress, key):
    header = {"config": {"model": {"num_labels": 2}}, "class_names": ["a", "b"]}
    path = tmp_path / "x.safetensors"
    with pytest.raises(CheckpointError, match=rf"x\.safetensors: damaged header: its {key} need"):
        parse_header(path, {**header, "progress": progress})
    sound = {"recordings": RECORDINGS, "teachers": {"seen": ["S1"]}}
    assert parse_header(path, {**header, "progress": sound})[2] == sound
    sound |= {"start": {"checkpoint": "ab12", "seen": ["S1"]}}
    assert parse_header(path, {**header, "progress": sound})[2] == sound


def test_a_name_that_rules_the_terminal_is_damage(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"encoder\x1b[2J.weight": torch.ones(2), "head.bias": torch.ones(2)}, path)
    with pytest.raises(CheckpointError, match=r"a\.safetensors: a tensor is named 'encoder\\x1b"):
        read_stored(path)
