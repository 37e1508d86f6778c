"""Which run a folder holds, and that nothing of one is lost to another."""

import dataclasses
from types import SimpleNamespace

import pytest

from signbart.errors import ConfigError
from signbart.training.frameworks import FRAMEWORKS, KERAS, TORCH, framework_of
from signbart.training.run_folder import RESULTS, find_run, holds_run


@pytest.fixture
def find(tmp_path, tiny_config):
    """`find(framework, resume, names)`: what is found in a folder that holds these files."""

    def found(framework, resume, names):
        for name in names:
            (tmp_path / name).touch()
        state = SimpleNamespace(config=tiny_config, class_names=(), progress={})
        return find_run(
            tmp_path, tiny_config, (), {}, resume, framework=framework, load=lambda path: state
        )

    return found


def test_an_empty_folder_holds_none(find, tmp_path):
    assert find(TORCH, False, []) is None and not holds_run(tmp_path)


@pytest.mark.parametrize("framework", FRAMEWORKS.values(), ids=FRAMEWORKS)
def test_any_part_of_a_run_is_one(find, framework):
    for name in (framework.best, framework.last, RESULTS):
        with pytest.raises(ConfigError, match="already holds a run; pass --resume"):
            find(framework, False, [name])


def test_stopped_before_the_first_last_it_begins_anew(find):
    """The best checkpoint is written first."""
    assert find(TORCH, True, [TORCH.best]) is None


@pytest.mark.parametrize("framework", FRAMEWORKS.values(), ids=FRAMEWORKS)
def test_a_finished_run_is_gone_on_with_only_if_it_is_whole(find, framework):
    with pytest.raises(ConfigError, match=f"finished run without its {framework.last}; choose"):
        find(framework, True, [RESULTS, framework.best])


def test_left_overs_of_a_finished_run_go(find, tmp_path, left_over):
    """It writes nothing any more that would clear them."""
    left = left_over(tmp_path, RESULTS)
    assert find(TORCH, True, [RESULTS, TORCH.best, TORCH.last]) is not None
    assert not left.parents[1].exists()
    left.parents[1].mkdir()  # killed a step later
    find(TORCH, True, [])
    assert not left.parents[1].exists()


def test_a_finished_run_needs_its_best(find, tmp_path):
    with pytest.raises(ConfigError, match=r"finished run without its best\.keras; choose"):
        find(KERAS, True, [RESULTS, KERAS.last])
    assert find(KERAS, True, [KERAS.best]) is not None


def test_the_other_framework_is_named(find):
    with pytest.raises(
        ConfigError, match=r"was trained in Keras \(last\.weights\.h5\), not in PyTorch"
    ):
        find(TORCH, True, [KERAS.last, KERAS.best])


def test_a_ported_checkpoint_does_not_make_it_another_frameworks_run(find, tmp_path):
    assert find(KERAS, True, [KERAS.last, KERAS.best, TORCH.best]) is not None
    assert framework_of(tmp_path) == KERAS


def test_a_key_that_is_not_written_is_named_where_it_differs(tmp_path, tiny_config):
    """Keys that came later are in a checkpoint only where they are used."""
    (tmp_path / TORCH.last).touch()
    train = dataclasses.replace(tiny_config.train, ema=0.9)
    averaged = dataclasses.replace(tiny_config, train=train)
    for there, here, said in (
        (tiny_config, averaged, r"train\.ema is 0\.0 there and 0\.9 now"),
        (averaged, tiny_config, r"train\.ema is 0\.9 there and 0\.0 now"),
    ):
        state = SimpleNamespace(config=there, class_names=(), progress={})
        with pytest.raises(ConfigError, match=said):
            find_run(tmp_path, here, (), {}, True, framework=TORCH, load=lambda path, s=state: s)


def test_a_run_of_before_that_does_not_note_whom_its_start_knows_is_gone_on_with(
    tmp_path, tiny_config
):
    (tmp_path / TORCH.last).touch()
    start = {"checkpoint": "ab12", "values_taken": 3}
    state = SimpleNamespace(config=tiny_config, class_names=(), progress={"start": start})

    def find(start):
        identity = {"start": start}
        options = {"framework": TORCH, "load": lambda path: state}
        return find_run(tmp_path, tiny_config, (), identity, True, **options)

    assert find({**start, "seen": ["S1"]}) is state
    with pytest.raises(ConfigError, match="values_taken was 3 and is 4 now"):
        find({**start, "values_taken": 4})


def test_the_order_of_the_test_signers_is_none_of_the_division(tmp_path, tiny_config):
    (tmp_path / TORCH.last).touch()
    recordings = {"fingerprint": "ab12", "clips": 3, "test_signers": ["S3", "S1"]}
    state = SimpleNamespace(config=tiny_config, class_names=(), progress={"recordings": recordings})

    def find(*test_signers):
        identity = {"recordings": {**recordings, "test_signers": [*test_signers]}}
        options = {"framework": TORCH, "load": lambda path: state}
        return find_run(tmp_path, tiny_config, (), identity, True, **options)

    assert find("S1", "S3") is find("S3", "S1") is state
    with pytest.raises(ConfigError, match=r"another division.*\['S3', 'S1'\] and is \['S1'\] now"):
        find("S1")
