"""The README and docs/ as data: their commands, in blocks and in sentences, and how those are run.

`PLACEHOLDERS`, `SHORTENED` and `NOT_RUN` are all that differs between what the pages say and what
``make docs-check`` runs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
# In the order in which a reader meets them; later ones use what earlier ones made.
PAGES = (
    "README.md", "docs/installation.md", "docs/data.md", "docs/training.md", "docs/migration.md",
    "docs/evaluation.md", "docs/verification.md", "docs/deployment.md", "docs/web.md",
    "docs/streaming.md",
    "docs/quantization.md", "docs/performance.md", "docs/other_models.md",
    "docs/recognition.md", "docs/security.md", "docs/scaling.md",
    "docs/troubleshooting.md", "docs/architecture.md",
)  # fmt: skip
LANGUAGES = {"", "text", "yaml", "python", "kotlin", "swift", "javascript"}

# Word of the pages -> what stands in its place in the scratch folder. Longer words first.
PLACEHOLDERS = {
    "QUANTIZED.tflite": "exports/signs/kp90_litert_int8.tflite",
    "FLOAT.tflite": "exports/signs/kp90_litert_fp32.tflite",
    "MODEL.tflite": "exports/signs/kp90_litert_fp32.tflite",
    "A.tflite": "exports/signs/kp90_litert_fp32.tflite",
    "B.tflite": "exports/signs/kp90_litert_int8.tflite",
    "FILE": "exports/signs/kp90_litert_fp32.tflite",
    "CKPT": "runs/signs/best.safetensors",
    "CLIP": "recordings.npz[0]",
    "FOLDER": "few",
    "NAME": "signs",
    "RECORDINGS": "recordings.npz",
    "OUT.npz": "packed.npz",
    "ROOT": "tree",
    "RANK": "0",
    "FIRST": "127.0.0.1",
}
# The same for somebody with recordings of their own, which have no face: the README's words.
OWN = {
    "kp90.yaml": "kp75.yaml",
    "kp90_litert_fp32.tflite": "kp75_litert_fp32.tflite",
    "FILE": "exports/mine/kp75_litert_fp32.tflite",
    "RECORDINGS": "mine",
    "ROOT": "mine",
    "OUT.npz": "mine.npz",
    "NAME": "mine",
    "CLIP": "mine/hello/user03_R1.npy",
}
# Real recordings, where they are; a command that names one is skipped without them.
REAL = ("isl_kinect30", "fsl7_holistic")

# The environment is the one that runs this: it is not installed anew.
_MAKE = "make -o .venv/.installed"
# Program -> (pattern, replacement) pairs; "$" appends. Nothing but time is saved.
SHORTENED: dict[str, tuple[tuple[str, str], ...]] = {
    "make demo": ((r"make", f"{_MAKE} OPTIONS='--set train.epochs=2'"),),
    "make bench": (
        (
            r"make",
            f"{_MAKE} FRAMES=8 LATENCY='--frames 8 --threads 1 --rounds 2' "
            "STEP='--batch-size 2 --frames 8 --rounds 1' CONVERSION='--routes litert --rounds 1' "
            "OPTIONS='--set train.epochs=2'",
        ),
    ),
    "make results": (
        (
            r"make",
            # Fewer epochs, and what quantization changes in the fewer clips is a verdict.
            f"{_MAKE} RUNS=few/runs OPTIONS='--set train.epochs=18 --qat-epochs 1 --routes litert "
            "--schemes fp32'",
        ),
    ),
    "python -m signbart.calibrate": (),
    "python -m signbart.clips": (),
    "python -m signbart.synthetic": (),
    "python -m signbart.video": (),
    # Enough epochs for quantization to have something to keep.
    "python -m signbart_torch.train": (
        (r"$", " --set train.epochs=12"),
        (r"(sign_transformer|conv_signbart|model.motion).*$", r"\g<0> --set train.epochs=1"),
    ),
    "python -m signbart_torch.loso": (
        (r"isl_kinect30 --.*$", r"\g<0> --signers S01 S02"),
        (r"recordings.npz .*$", r"\g<0> --signers P01 P02"),
        (r"$", " --set train.epochs=1"),
    ),
    # A large part of a grid takes as many trainings.
    "python -m signbart_torch.sweep": ((r"$", " --signers 1 --set train.epochs=1"),),
    "python -m signbart_tf.loso": ((r"$", " --signers P01 P02 --set train.epochs=1"),),
    "python -m signbart_torch.qat": ((r"$", " --epochs 1"),),
    "python -m signbart_torch.distill": ((r"$", " --set train.epochs=1"),),
    "python -m signbart_torch.prune": ((r"$", " --set train.epochs=1"),),
    # One of the two machines is all of them.
    "torchrun": ((r"--nnodes 2", "--nnodes 1"), (r"$", " --set train.epochs=1")),
    "python -m signbart_tf.qat": ((r"$", " --epochs 1"),),
    "python -m signbart_tf.train": ((r"$", " --set train.epochs=1"),),
    # tests/bridge converts by every route.
    "python bridge/convert.py": ((r"--route all", "--route litert"), (r"--samples 34", "")),
    "python bridge/export_models.py": (),
    "python -m signbart_runtime.evaluate": ((r" --stream .*$", r"\g<0> --signers P01"),),
    # A window in the few frames of a synthetic clip.
    "python -m signbart_runtime.classify": ((r"--stream --fps \d+", "--stream --fps 5"),),
    "python -m signbart_runtime.loso": (
        (r" --qat", ""),
        (r"isl_kinect30 .*$", r"\g<0> --signers S01"),
        (r"recordings.npz .*$", r"\g<0> --signers P01"),
        (r"--data mine .*$", r"\g<0> --signers user01"),
        (r"$", " --set train.epochs=1 --routes litert --schemes fp32,fp16"),
    ),
    "python -m signbart_runtime.report": (),
    # It would serve until it is interrupted.
    "python -m signbart_runtime.web": ((r"^(?!.*--build).*$", r"\g<0> --build page"),),
    "npm ci": ((r"--prefix web", '--prefix "$(realpath web)"'),),  # it refuses links
    "python -m bridge.parity": (),
    "python -m bridge.quantize": (),
    "python -m bridge.weight_map": (),
    "python -m signbart_runtime.describe": (),
    "python -m signbart_runtime.integrity": (),
    "python -m signbart_runtime.bench": ((r"$", " --rounds 5"),),
    "python -m signbart.doctor": (),
    "python -m signbart_runtime.tensor_errors": (),
    "python -m benchmarks.operators": ((r"$", " --rounds 5"),),
    "python -m benchmarks.training_step": (
        (r"--batch-size \d+ --frames \d+", "--batch-size 2 --frames 8 --rounds 1"),
    ),
    "python -m benchmarks.gpu_training": (
        (r"$", " --device cpu --clips 4 --batch-sizes 2 --seconds 0 --variants float32"),
    ),
    "python -m benchmarks.conversion": ((r"$", " --routes litert --rounds 1"),),
    "python -m benchmarks.landmarks": ((r"$", " --rounds 1"),),
    "python -m benchmarks.raw_signature": (
        (r"--layouts all --random \d+", "--layouts kinect20 --routes litert --random 20"),
        (r"--data isl_kinect30 .*$", "--data isl_kinect30"),
        (r"int8.tflite$", r"\g<0> --rounds 5"),
    ),
    "python -m benchmarks.instruction_sets": ((r"$", " --rounds 2"),),
    "python -m benchmarks.startup": ((r"$", " --rounds 1"),),
    "python -m benchmarks.layer_limits": (),
    "python -m benchmarks.static_int8": ((r"$", ' --only "moving average"'),),
    "python -m benchmarks.kinds": ((r"$", " --rounds 2"),),
    "python -m benchmarks.frontier": ((r"$", " --rounds 2"),),
    "python -m benchmarks.other_models": ((r"$", " --routes keras --rounds 2"),),
    "python -m benchmarks.fine_tuning": (
        (r"--signers .* --output", "--signers S01 --output"),
        (r"$", " --counts 1 --epochs 1 --seeds 0 --base-epochs 1"),
    ),
    "python -m benchmarks.engines": ((r"$", " --tasks 1 --seconds 0.1 --workers 1 --kills 1"),),
    "python -m benchmarks.scaling": ((r" --set .*$", ""), (r"$", " --runs 0 --sample 200")),
    "python -m benchmarks.large_set": ((r"$", " --clips 400 --small 400"),),
    "python -m zipfile": (),
    "python recognize.py": (),
}
NOT_RUN = {
    "make test": "it is the test suite",
    "make test-fast": "a part of the test suite",
    "make docs-check": "it is what runs this",
    "make site": "tests/docs/test_site.py builds it",
    "make campaign": "it takes what the test suite takes twenty times",
    "make web": "it serves until it is interrupted",
    "python -m benchmarks.cluster_failures": "it mounts file systems and takes minutes",
    "python -m benchmarks.landmark_folder": "it takes minutes, and a video of somebody",
    "python -m benchmarks.lengths": "tests/bridge/artifact/test_lengths.py runs it, on such a file",
    "make wheel-check": "it installs environments of gigabytes",
    "python -m benchmarks.stream_rule": "it is of three trainings and takes minutes",
    "pip wheel": "make wheel-check runs it",
    "pip install": "make wheel-check runs it",
    "pip download": "tests/signbart/video runs it",
    "source .venv/bin/activate": "the environment that runs this is active",
}
# A command in a sentence; without anything behind the program's name it is a mention.
INLINE = re.compile(r"`((?:python -m|python|make|torchrun)\s[^`]+)`")
MENTION = re.compile(r"(?:python -m [\w.]+|python bridge/\w+\.py|make [\w-]+)")


@dataclass(frozen=True)
class Block:
    """A fenced block: where it begins, in which language, and what stands in it."""

    page: str
    line: int
    language: str
    text: str


@dataclass(frozen=True)
class Command:
    """One command of a page, on one line, without its comment."""

    page: str
    line: int
    text: str

    @property
    def program(self) -> str | None:
        """The key of `SHORTENED` or `NOT_RUN` that it begins with."""
        for program in (*SHORTENED, *NOT_RUN):
            if self.text == program or self.text.startswith(program + " "):
                return program
        return None

    def filled(self, stand_ins: Mapping[str, str] = PLACEHOLDERS) -> str:
        """The command with placeholders filled in."""
        text = self.text
        for word, stand_in in stand_ins.items():
            text = re.sub(rf"(?<![A-Za-z]){re.escape(word)}(?![A-Za-z.])", stand_in, text)
        return text

    def to_run(self, stand_ins: Mapping[str, str] = PLACEHOLDERS) -> str:
        """The same, shortened."""
        text = self.filled(stand_ins)
        for pattern, replacement in SHORTENED[self.program]:
            text = re.sub(pattern, replacement, text, count=1)
        return text


def read_page(page: str) -> str:
    """The page's text."""
    return (REPOSITORY / page).read_text(encoding="utf-8")


def blocks(page: str, text: str | None = None) -> list[Block]:
    """The fenced blocks of a page."""
    found, begun = [], None
    for number, line in enumerate((text or read_page(page)).splitlines(), 1):
        if not line.startswith("```"):
            if begun:
                begun[2].append(line)
        elif begun is None:
            begun = (number, line[3:].strip(), [])
        else:
            found.append(Block(page, begun[0], begun[1], "\n".join(begun[2]) + "\n"))
            begun = None
    assert begun is None, f"{page}: the block of line {begun[0]} does not end"
    return found


def inline(page: str, text: str | None = None) -> list[Command]:
    """The commands in the page's sentences, mentions among them."""
    text = read_page(page) if text is None else text
    # Blocks keep their lines, but not what stands in them.
    fenced = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
    prose = fenced.sub(lambda block: "\n" * block[0].count("\n"), text)
    return [
        Command(page, prose.count("\n", 0, span.start()) + 1, " ".join(span[1].split()))
        for span in INLINE.finditer(prose)
    ]


def mentions() -> list[Command]:
    """Programs that are named in sentences without anything behind the name."""
    return [found for page in PAGES for found in inline(page) if MENTION.fullmatch(found.text)]


def commands(page: str, text: str | None = None) -> list[Command]:
    """What the page tells to run: in its blocks without a language, and in its sentences."""
    found = [one for one in inline(page, text) if not MENTION.fullmatch(one.text)]
    for block in blocks(page, text):
        if block.language:
            continue
        joined = re.sub(r"\\\n\s*", "", block.text)
        for line in joined.splitlines():
            line = re.sub(r"\s+#.*$", "", line).strip()
            if line:
                found.append(Command(page, block.line, " ".join(line.split())))
    return sorted(found, key=lambda command: command.line)


def all_blocks(language: str) -> list[Block]:
    """Every page's blocks in that language."""
    return [block for page in PAGES for block in blocks(page) if block.language == language]


def all_commands() -> list[Command]:
    """Every page's commands, in reading order."""
    return [command for page in PAGES for command in commands(page)]


def steps(pages: Sequence[str]) -> list[Command | Block]:
    """What there is to run on these pages, as it stands there: commands and Python snippets.

    The snippet that needs no libraries is a program of its own, which a command runs.
    """
    found = [c for page in pages for c in commands(page) if c.program not in NOT_RUN]
    found += [b for b in all_blocks("python") if b.page in pages and b.page != "docs/deployment.md"]
    return sorted(found, key=lambda step: (PAGES.index(step.page), step.line))


def id_of(step: Command | Block) -> str:
    """For the test's name."""
    about = step.program if isinstance(step, Command) else "snippet"
    return f"{step.page}:{step.line} {about}"
