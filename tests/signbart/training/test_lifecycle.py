"""The life of a run, lived by the smallest learner there is: softmax regression in NumPy.

That PyTorch and Keras live it too, their own tests show.
"""

import csv
import dataclasses
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from signbart.batches import evaluation_batches, training_batches
from signbart.configuration.reading import from_dict
from signbart.errors import ConfigError, SignBartError
from signbart.recordings.clip import ClipSet
from signbart.training import lifecycle, run_folder
from signbart.training.frameworks import FRAMEWORKS, TORCH
from signbart.training.learner import Evaluation, Learner, Start, mixed_seed
from signbart.training.metrics import cross_entropy
from signbart.training.predictions import identify, is_evaluated, read_predictions
from signbart.training.progress import percentages
from signbart.training.run_folder import write_text
from signbart.training.schedule import Plateau, learning_rate

NUMPY = dataclasses.replace(TORCH, title="NumPy", best="best.npz", last="last.npz")


@pytest.fixture(autouse=True)
def numpy_is_a_framework(monkeypatch):
    monkeypatch.setitem(FRAMEWORKS, NUMPY.name, NUMPY)


class Killed(BaseException):
    """As sudden as a signal: no handler of Exception may swallow it."""


class Softmax(Learner):
    """Classes by a clip's mean keypoints; its optimizer is momentum, its dropout noise."""

    where = "this page"

    def __init__(self, config, class_names, preparation):
        self.config, self.class_names, self.preparation = config, class_names, preparation
        rng = np.random.default_rng(config.train.seed)
        self.weights = rng.normal(size=(2 * config.num_keypoints, len(class_names)))
        self.momentum = np.zeros_like(self.weights)
        self.scale, self.board, self.asked = 1.0, [], []
        self.parameters = self.weights.size

    def load(self, checkpoint, source):
        self.weights = checkpoint.weights.copy()

    def restore(self, checkpoint, source):
        self.load(checkpoint, source)
        self.momentum = checkpoint.momentum.copy()

    def refresh(self):
        if self.preparation:
            self.scale = 1 / np.abs(self.weights).max()

    def train_epoch(self, data, epoch, rate_of):
        noise = np.random.default_rng(mixed_seed(self.config.train.seed, epoch))
        loss = hits = 0
        for step, batch in enumerate(training_batches(data, self.config, epoch)):
            features = self._features(batch)
            features = features + noise.normal(scale=0.1, size=features.shape)
            logits = features @ self.weights
            wrong = np.exp(logits - logits.max(axis=1, keepdims=True))
            wrong /= wrong.sum(axis=1, keepdims=True)
            wrong[np.arange(len(wrong)), batch.labels] -= 1
            self.momentum = 0.9 * self.momentum + features.T @ wrong / len(wrong)
            self.weights = self.weights - rate_of(step) * self.momentum
            self.asked.append((epoch, step))
            loss += cross_entropy(logits, batch.labels) * len(wrong)
            hits += (logits.argmax(axis=1) == batch.labels).sum()
        return loss / len(data), 100 * hits / len(data)

    @staticmethod
    def _features(batch):
        mask = batch.attention_mask[:, :, None, None]
        mean = (batch.keypoints * mask).sum(axis=1) / mask.sum(axis=1)
        return mean.reshape(len(mean), -1).astype(np.float64)

    def evaluate(self, data):
        return self._evaluate(self.weights * self.scale, data)

    def evaluator_of(self, checkpoint, source):
        return lambda data: self._evaluate(checkpoint.weights, data)

    def _evaluate(self, weights, data):
        logits = np.empty((len(data), weights.shape[1]), np.float32)
        for batch in evaluation_batches(data, self.config):
            logits[batch.indices] = self._features(batch) @ weights
        return Evaluation(
            logits, cross_entropy(logits, data.labels), {"spread": float(np.ptp(logits))}
        )

    def save(self, path, progress, *, resumable):
        with open(path, "wb") as file:
            np.savez(
                file,
                weights=self.weights,
                **({"momentum": self.momentum} if resumable else {}),
                config=json.dumps(self.config.to_dict()),
                class_names=json.dumps(self.class_names),
                progress=json.dumps(progress),
            )

    def open_event_writer(self, folder, purge_step):
        self.board.append(purge_step)
        return SimpleNamespace(write=self.board.append, close=lambda: self.board.append("closed"))


def load(path):
    with np.load(path) as file:
        return SimpleNamespace(
            weights=file["weights"],
            momentum=file.get("momentum"),
            config=from_dict(json.loads(str(file["config"])), source=str(path)),
            class_names=tuple(json.loads(str(file["class_names"]))),
            progress=json.loads(str(file["progress"])),
        )


@pytest.fixture
def fit(tiny_clips, tiny_config, tmp_path):
    """`fit("name", config)` trains on three signers and tests on the fourth: results, folder."""

    def run(name="run", config=tiny_config, learner=Softmax, **options):
        results = lifecycle.train(
            tiny_clips, config, tmp_path / name, test_signers=["dan"],
            **{"framework": NUMPY, "load": load, "make_learner": learner, **options},
        )  # fmt: skip
        return results, tmp_path / name

    return run


def content(folder):
    """All that a run wrote, less the times."""
    found = {"results": json.loads((folder / "results.json").read_text())}
    with open(folder / "summary.csv", encoding="utf-8") as file:
        found["rows"] = [{**row, "seconds": ""} for row in csv.DictReader(file)]
    for name in (NUMPY.best, NUMPY.last):
        checkpoint = load(folder / name)
        arrays = (checkpoint.weights, checkpoint.momentum)
        found[name] = [array.tobytes() for array in arrays if array is not None]
        found[name].append(checkpoint.progress.get("plateau"))
    return found


@pytest.fixture
def plateau(with_train):
    """A rate so high that the validation loss stagnates: the plateau's state has to matter."""
    return with_train(
        scheduler="plateau", lr=30.0, plateau_factor=0.5, plateau_patience=1, epochs=8
    )


@pytest.fixture
def writes(monkeypatch):
    """`writes(7)`: the names of the files that are written, until the seventh kills the run."""

    def watched(until=math.inf):
        names = []

        def watching(write, path_of):
            def call(*arguments, **options):
                if len(names) == until:
                    raise Killed
                names.append(path_of(arguments).name)
                return write(*arguments, **options)

            return call

        monkeypatch.undo()
        monkeypatch.setitem(FRAMEWORKS, NUMPY.name, NUMPY)
        monkeypatch.setattr(Softmax, "save", watching(Softmax.save, lambda given: given[1]))
        for module in (lifecycle, run_folder):
            monkeypatch.setattr(module, "write_text", watching(write_text, lambda given: given[0]))
        return names

    return watched


def test_files_are_written_in_an_order_that_a_kill_cannot_harm(fit, writes, with_train):
    names = writes()
    fit(config=with_train(lr=0.0, epochs=2))  # the first epoch is the best
    assert names == [
        "config.yaml", "best.npz", "summary.csv", "last.npz", "summary.csv", "last.npz",
        "results.json",
    ]  # fmt: skip


def test_killed_at_any_moment_it_ends_with_the_same_bits(fit, writes, plateau):
    names = writes()
    fit("whole", plateau)
    _, whole = fit("whole", plateau, resume=True)
    wanted = content(whole)
    assert len({row["lr"] for row in wanted["rows"]}) > 2, "the rate hardly fell"
    for moment in range(len(names)):
        writes(until=moment)
        with pytest.raises(Killed):
            fit(f"{moment}", plateau)
        writes()
        # --resume also starts a run of which nothing was written yet.
        _, stopped = fit(f"{moment}", plateau, resume=True)
        assert content(stopped) == wanted, names[moment]


@pytest.mark.parametrize("lost", ["momentum", "plateau"])
def test_what_is_restored_matters(fit, plateau, lost):
    """The negative control of the test above."""
    _, whole = fit("whole", plateau)

    def stop(row):
        if row["epoch"] == 3:
            raise Killed

    with pytest.raises(Killed):
        fit("stopped", plateau, report=stop)

    def forgetful(path):
        state = load(path)
        if path.name == NUMPY.last and lost == "momentum":
            state.momentum = state.momentum * 0
        elif path.name == NUMPY.last:
            state.progress["plateau"] = None
        return state

    _, stopped = fit("stopped", plateau, resume=True, load=forgetful)
    assert content(stopped) != content(whole)


def test_each_step_is_asked_its_rate_and_the_row_has_the_last(fit, with_train):
    made = []

    def learner(*arguments):
        made.append(Softmax(*arguments))
        return made[-1]

    config = with_train(epochs=3)
    _, folder = fit(config=config, learner=learner)
    # 18 clips in batches of 8: three steps an epoch.
    assert made[0].asked == [(epoch, step) for epoch in range(3) for step in range(3)]
    expected = [learning_rate(config.train, 3 * epoch + 2, 3) for epoch in range(3)]
    rows = content(folder)["rows"]
    assert [float(row["lr"]) for row in rows] == expected
    assert [row["epoch"] for row in made[0].board[1:-1]] == [1, 2, 3]
    assert (made[0].board[0], made[0].board[-1]) == (1, "closed")
    assert {"val_loss", "val_accuracy", "val_top5", "val_spread"} <= rows[0].keys()


def test_what_only_some_models_have_is_in_the_results(fit):
    results, _ = fit()
    assert results["val"].keys() == {"accuracy", "top5", "mean_class_accuracy", "spread"}


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_leaves_the_last_checkpoint(fit, loss):
    class Exploding(Softmax):
        def train_epoch(self, data, epoch, rate_of):
            found = super().train_epoch(data, epoch, rate_of)
            return (loss, 0.0) if epoch == 2 else found

    with pytest.raises(ConfigError, match=rf"loss is {loss} in epoch 3; lower.*last\.npz is unto"):
        fit("stopped", learner=Exploding)
    _, stopped = fit("stopped", resume=True)
    _, whole = fit("whole")
    assert content(stopped) == content(whole)


def test_who_trains_along_writes_and_says_nothing(fit, tmp_path, with_train):
    waited, said = [], []

    class Along(Softmax):
        is_main = False

        def wait_for_others(self):
            waited.append(sorted(path.name for path in tmp_path.rglob("*")))
            fit("along", config)  # the main process

    config = with_train(epochs=2)
    results, folder = fit("along", config, learner=Along, report=said.append, announce=said.append)
    assert waited == [[]] and not said
    assert results == json.loads((folder / "results.json").read_text())


def test_the_best_epochs_temperature_and_what_it_said_of_the_test_clips_are_kept(
    fit, tiny_clips, with_train
):
    results, folder = fit()
    progress = load(folder / NUMPY.best).progress
    rows = content(folder)["rows"]
    best = float(rows[progress["best"]["epoch"] - 1]["val_temperature"])
    assert progress["temperature"] == pytest.approx(best) != 1.0
    assert results["temperature"] == round(progress["temperature"], 4)
    tested = tiny_clips.select(at for at, who in enumerate(tiny_clips.signers) if who == "dan")
    kept = read_predictions(folder / "evaluation", NUMPY.best)
    assert kept.labels.tolist() == tested.labels.tolist() and set(kept.signers) == {"dan"}
    assert percentages(kept.scores) == {k: results["test"][k] for k in percentages(kept.scores)}
    assert kept.temperature == progress["temperature"]
    assert is_evaluated(folder / "evaluation", NUMPY.best, identify(folder / NUMPY.best, tested))
    # Nothing validated: nothing was fitted.
    results, folder = fit("unheld", with_train(val_signers=0, val_fraction=0.0))
    assert results["temperature"] == load(folder / NUMPY.best).progress["temperature"] == 1.0


# The order of the test signers


@pytest.fixture
def divide(tiny_clips, with_train, tmp_path):
    """`divide("name", ["eve", "ben"])`: results, and the last checkpoint, of six signers."""
    names = {("anna", 2): "eve", ("ben", 2): "fay"}
    clips = ClipSet(
        tuple(
            dataclasses.replace(clip, signer=names.get((clip.signer, clip.repetition), clip.signer))
            for clip in tiny_clips.clips
        ),
        tiny_clips.class_names,
    )

    def run(name, test_signers, **options):
        results = lifecycle.train(
            clips, with_train(epochs=2), tmp_path / name, framework=NUMPY, load=load,
            make_learner=Softmax, test_signers=test_signers, **options,
        )  # fmt: skip
        return results, load(tmp_path / name / NUMPY.last)

    return run


def test_the_order_of_the_test_signers_changes_nothing(divide):
    results, last = divide("one", ["eve", "ben"])
    assert (results["test_signers"], results["val_signers"]) == (["ben", "eve"], ["fay"])
    other, found = divide("other", ["ben", "eve", "ben"])
    assert other == results
    np.testing.assert_array_equal(found.weights, last.weights)
    assert divide("one", ["ben", "eve"], resume=True)[0] == results


def test_a_run_of_before_goes_on_with_who_validated_in_its_order(divide, tmp_path):
    def stop(row):
        raise Killed

    with pytest.raises(Killed):
        divide("run", ["ben", "eve"], report=stop)
    path = tmp_path / "run" / NUMPY.last
    with np.load(path) as file:
        arrays = dict(file)
    progress = json.loads(str(arrays["progress"]))
    progress["recordings"]["test_signers"] = ["eve", "ben"]
    np.savez(path, **{**arrays, "progress": json.dumps(progress)})
    results, last = divide("run", ["ben", "eve"], resume=True)
    assert results["val_signers"] == ["cleo"] and results["test_signers"] == ["ben", "eve"]
    # For the next time as well.
    assert last.progress["recordings"]["test_signers"] == ["eve", "ben"]


# A start


@pytest.fixture
def start(fit):
    """A trained model, and a preparation that shows in the logits' spread."""
    _, folder = fit("before")
    source = folder / NUMPY.best
    trained = load(source)
    return Start(trained, source, {"scheme": "scaled"}, preparation=True, progress=trained.progress)


def test_the_start_is_a_candidate_and_is_scored_as_it_came_and_as_prepared(fit, start, with_train):
    rows = []
    results, folder = fit(config=with_train(lr=0.0, epochs=2), start=start, report=rows.append)
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    assert results["best_epoch"] == 0
    np.testing.assert_array_equal(load(folder / NUMPY.best).weights, start.checkpoint.weights)
    before = results["start"]
    assert before["scheme"] == "scaled" and before["prepared"]["val"] == results["val"]
    assert before["plain"]["val"]["spread"] != before["prepared"]["val"]["spread"]
    assert load(folder / NUMPY.last).progress["start"] == {"scheme": "scaled"}
    assert not (folder / "evaluation").exists()  # a prepared model is in no checkpoint


def test_a_run_from_a_start_killed_at_any_moment_ends_with_the_same_bits(
    fit, start, writes, with_train
):
    config = with_train(epochs=3, lr=0.1)
    names = writes()
    _, whole = fit("whole", config, start=start)
    for moment in range(len(names)):
        writes(until=moment)
        with pytest.raises(Killed):
            fit(f"{moment}", config, start=start)
        writes()
        _, stopped = fit(f"{moment}", config, start=start, resume=True)
        assert content(stopped) == content(whole), names[moment]


def test_a_run_is_resumed_from_the_same_start_only(fit, start):
    fit(start=start)
    other = dataclasses.replace(start, identity={"scheme": "other"})
    with pytest.raises(ConfigError, match="another model: scheme was 'scaled' and is 'other'"):
        fit(start=other, resume=True)
    with pytest.raises(ConfigError, match="another model: scheme was 'scaled' and is None"):
        fit(resume=True)


def test_a_folder_that_another_process_trains_in_is_left_alone(fit, with_train):
    refused = []

    def second(row):
        with pytest.raises(SignBartError, match="run: another process is writing there"):
            fit(config=with_train(epochs=1), resume=True)
        refused.append(row["epoch"])

    fit(config=with_train(epochs=1), report=second)
    assert refused == [1]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (None, (math.inf, 0)),
        ({"best": None, "bad_epochs": 0}, (math.inf, 0)),
        ({"best": 0.5, "bad_epochs": 2}, (0.5, 2)),
        ({"best": 0.5, "num_bad_epochs": 2, "factor": 0.1}, (0.5, 2)),  # as PyTorch's own has it
    ],
)
def test_the_plateau_goes_on_where_it_was(tiny_config, state, expected):
    plateau = Plateau.of(tiny_config.train, state)
    assert (plateau.best, plateau.bad_epochs) == expected
    assert Plateau.of(tiny_config.train, json.loads(json.dumps(plateau.state()))) == plateau
