"""One process that lives long: neither memory nor open files grow with what it has done."""

import functools
import gc
import multiprocessing
import os
import threading
import urllib.request
from collections.abc import Callable

import pytest
import yaml

from signbart.recordings.packed import write_packed
from signbart.streaming.rule import StreamRule, spot
from signbart.synthetic.signs import make_clips
from signbart_runtime.evaluation.opened import open_model
from signbart_runtime.evaluation.stream import window_probabilities
from signbart_runtime.web.packages import PAGE
from signbart_runtime.web.server import address, make_server
from signbart_runtime.web.site import Site
from tests.robustness.conftest import CAMPAIGN
from tests.robustness.test_kills import EXAMPLE

MORE = max(1, CAMPAIGN)  # times what the suite does: of 500, 100,000 classifications
MOST = 16 << 20  # bytes; what frees and takes again differs by some
LONG = pytest.mark.timeout(3600 if CAMPAIGN else 250)


def held() -> tuple[int, int]:
    """Bytes of memory, and open files, of this process."""
    gc.collect()
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir("/proc/self/fd"))


def must_not_grow(act: Callable[[], object], times: int) -> None:
    """Does it so often, and a quarter of that before, to fill what is filled once."""
    for _ in range(max(2, times // 4)):
        act()
    memory, files = held()
    for _ in range(times):
        act()
    more, others = held()
    assert others == files
    assert more - memory < MOST, f"{more - memory:,} bytes more after {times}"


@functools.cache
def clips():
    return make_clips(num_signers=1, repetitions=1, seed=0).clips


@LONG
def test_classifying(tried):
    model, times = open_model(EXAMPLE), 200 * MORE if CAMPAIGN else 60
    must_not_grow(lambda: model.classify(clips()[0]), times)
    tried["long life: classified"] += times


@LONG
def test_opening_artifacts(tried):
    times = max(4, MORE)
    must_not_grow(lambda: open_model(EXAMPLE).classify(clips()[0]), times)
    tried["long life: opened"] += times


@LONG
def test_a_stream(tried):
    """A model asked window by window, and the rule over its answers."""
    model, rule = open_model(EXAMPLE), StreamRule()
    landmarks = [frame for clip in clips()[:3] for frame in clip.landmarks]
    frames = [(at / 30, frame) for at, frame in enumerate(landmarks)]

    def watch() -> None:
        times, found = window_probabilities(model, frames, rule, source="stream")
        spot(times, found, rule, model.class_names)

    must_not_grow(watch, max(4, MORE))
    tried["long life: streams"] += max(4, MORE)


@LONG
def test_a_page_that_is_loaded_again_and_again(tried):
    files = {
        path.relative_to(PAGE).as_posix(): path
        for path in [PAGE / "index.html", *(PAGE / "modules").glob("*.js")]
    }
    times = 2 * MORE
    with make_server(Site({**files, "model/a.tflite": EXAMPLE}, {}), 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def load() -> None:
            for name in (*files, "model/a.tflite", "site.json"):
                with urllib.request.urlopen(address(server) + name) as answer:
                    assert answer.status == 200 and answer.read()

        threads = threading.active_count()
        must_not_grow(load, times)
        assert threading.active_count() <= threads + 1
        server.shutdown()
    tried["long life: loads of the page"] += times


def _classify(number: int, results) -> None:
    model = open_model(EXAMPLE)
    results.put((number, [model.classify(clip)[0] for clip in clips()]))


@LONG
def test_eight_processes_with_one_artifact(tried):
    context = multiprocessing.get_context("fork")
    clips()
    for _ in range(max(1, MORE // 20)):
        results = context.Queue()
        workers = [context.Process(target=_classify, args=(at, results)) for at in range(8)]
        for worker in workers:
            worker.start()
        answers = [results.get(timeout=120)[1] for _ in workers]
        for worker in workers:
            worker.join(60)
        assert [worker.exitcode for worker in workers] == [0] * 8
        assert all(answer == answers[0] for answer in answers)
        tried["long life: eight processes"] += 1


@pytest.mark.slow
@LONG
@pytest.mark.skipif(not CAMPAIGN, reason="long: make campaign does it")
def test_two_hundred_epochs(tiny_clips, with_train, tmp_path, tried):
    from signbart_torch.train import main

    write_packed(tiny_clips, tmp_path / "all.npz")

    def train(epochs: int) -> None:
        config = with_train(epochs=epochs).to_dict()
        (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(config))
        output = str(tmp_path / f"run{epochs}")
        options = ["--data", str(tmp_path / "all.npz"), "--output", output]
        assert (
            main(["--config", str(tmp_path / "tiny.yaml"), *options, "--test-signers", "dan"]) == 0
        )

    train(20)
    memory, files = held()
    train(200)
    more, others = held()
    assert others == files and more - memory < MOST, f"{more - memory:,} bytes more"
    tried["long life: epochs"] += 200
