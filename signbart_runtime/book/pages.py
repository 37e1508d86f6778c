"""The results report: tables, confusion matrices and training curves of everything that was run.

Markdown with pictures beside it, the same as one self-contained page, and the tables as CSV.
"""

from __future__ import annotations

import base64
import datetime
import re
from collections.abc import Sequence
from pathlib import Path

from signbart.console import markdown_table
from signbart.files import atomic_write, make_folder, write_text
from signbart.training.predictions import (
    Predictions,
    draw_evaluation,
    per_class_csv,
    per_class_rows,
    pool,
)
from signbart.waiting import track
from signbart_runtime.book import tables as book_tables
from signbart_runtime.book.answer import answer, facts
from signbart_runtime.book.confidence import confidence
from signbart_runtime.book.confusions import confused_pairs
from signbart_runtime.book.csv_tables import (
    as_csv,
    count,
    joined,
    model_info,
    parity_table,
    summary_table,
)
from signbart_runtime.book.results import Run, Variant
from signbart_runtime.book.tables import Table
from signbart_runtime.folds.layout import PLAIN, QAT

MATRICES, CURVES = "confusion_matrices", "training_curves"
_PRECISIONS = {
    "FP32": "the float .tflite",
    "PTQ": "quantized after training",
    "QAT": "trained on with the same arithmetic simulated, then quantized",
}
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;"
    "color:#1b1b1b;background:#fff}table{border-collapse:collapse;margin:1rem 0;display:block;"
    "overflow-x:auto}th,td{padding:.25rem .6rem;border-bottom:1px solid #ddd;white-space:nowrap}"
    "th{border-bottom:2px solid #888}img{max-width:100%}summary{cursor:pointer;margin:.3rem 0}"
    "code{background:#f3f3f3;padding:0 .2rem}th:first-child{text-align:left}"
    "@media(max-width:40rem){table{font-size:13px}th,td{padding:.2rem .35rem}}"
)


def write_book(runs: Sequence[Run], output: Path, date: datetime.date) -> list[Path]:
    """Writes the results report, a chapter a run; an earlier one's files of the same names go.

    The runs' data have different names. Returns the report as Markdown and as HTML.
    """
    for folder in (output, output / MATRICES, output / CURVES):
        make_folder(folder)
    write_text(output / "summary_table.csv", as_csv(summary_table(runs)))
    # Over all folds, a column a variant of the route that is shown.
    pooled = {
        f"{run.data} {variant.name} {run.main_route}": _pooled(run, variant)
        for run in runs
        for variant in run.variants
    }
    write_text(output / "per_class_accuracy.csv", per_class_csv(pooled))
    write_text(output / "model_info.csv", as_csv(joined(runs, model_info)))
    write_text(output / "parity_table.csv", as_csv(parity_table(runs)))
    chapters = [_chapter(run, output) for run in runs]
    # Sections that are left out leave their blank lines.
    text = re.sub(r"\n{3,}", "\n\n", "\n".join([f"# Results, {date.isoformat()}", "", *chapters]))
    markdown = output / f"report_{date.isoformat()}.md"
    page = markdown.with_suffix(".html")
    write_text(markdown, text)
    write_text(page, _page(text, output))
    return [markdown, page]


def _chapter(run: Run, output: Path) -> str:
    """One run: what to ship, what was done, how good it is on whom, and the rest behind that."""
    found = answer(run)
    parts = [f"## {_escaped(run.data)}", "", f"**{_escaped(found.headline)}**", ""]
    parts += [f"- {name}: {_escaped(text)}" for name, text in found.measured]
    parts += ["", *(f"{_escaped(text)}\n" for text in found.notes)]
    parts += ["### What was done", ""]
    parts += [f"- {name}: {_escaped(text)}" for name, text in facts(run)]
    parts += ["", _legend(run), "", _section(book_tables.files(run))]
    parts += [_section(book_tables.per_signer(run)), *_classes(run)]
    parts += [_section(book_tables.scores(run)), _section(confidence(run))]
    parts += _curves(run, output)
    parts += [_section(book_tables.parity(run)), _section(book_tables.failures(run))]
    parts += _matrices(run, output)
    return "\n".join(
        [*parts, _section(book_tables.arithmetic(run)), _arithmetic(run), *_operators(run)]
    )


def _legend(run: Run) -> str:
    there = {variant.precision for variant in run.variants}
    words = [f"{name}: {text}" for name, text in _PRECISIONS.items() if name in there]
    return (
        f"{'; '.join(words)}. Every file's scores come from running that very file; agree: how "
        "many of them give PyTorch's answers, within their limits."
    )


def _section(table: Table) -> str:
    """A table, as a list of its rows where it is too wide; nothing of an empty one."""
    if not table.rows:
        return ""
    if table.width > book_tables.COLUMNS:
        cards = (f"- **{_escaped(name)}**: {_escaped(rest)}\n" for name, rest in table.cards())
        return f"### {table.title}\n\n{''.join(cards)}"
    return f"### {table.title}\n\n{_markdown(table.columns, table.rows)}"


def _folded(name: str, body: str) -> str:
    """What few want to see, behind a line that opens it."""
    return f'<details markdown="1"><summary>{_escaped(name)}</summary>\n\n{body}\n\n</details>\n'


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in which names from the data are text, not markup."""
    return markdown_table(columns, [[_escaped(cell) for cell in row] for row in rows])


def _escaped(text: str) -> str:
    text = text.replace("&", "&amp;").replace("<", "&lt;")
    # An underscore within a word, as in int8_io, is none anyway.
    return re.sub(r"([\\|*`\[\]]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", text)


def _arithmetic(run: Run) -> str:
    from signbart_torch.training.flops import COUNTED

    parameters, flops = count(run)
    return (
        f"{parameters:,} parameters, {flops:,} FLOPs in PyTorch: torch.utils.flop_counter, one "
        f"clip of full length; counted are {COUNTED}. In a file: the multiply-accumulates of its "
        "products (FULLY_CONNECTED, BATCH_MATMUL and convolutions), two FLOPs each.\n"
    )


def _curves(run: Run, output: Path) -> list[str]:
    """A picture a training, with a line a fold."""
    from signbart.pictures import draw_curves

    lines = []
    for training in (PLAIN, *QAT):
        histories = {fold: run.history(fold, training) for fold in run.folds}
        histories = {fold: rows for fold, rows in histories.items() if rows}
        if not histories:
            continue
        name = "float training" if training == PLAIN else f"QAT for {QAT[training]}"
        path = output / CURVES / f"{_file_name(run.data, training)}.png"
        with atomic_write(path) as picture:
            draw_curves(histories, f"{run.data}, {name}", picture)
        lines += [f"![{name}]({CURVES}/{path.name})", ""]
    return ["### Training curves", "", *lines] if lines else []


def _classes(run: Run) -> list[str]:
    """What is taken for what, and each class, the hardest first; by the first kind of file."""
    shown = next((one for one in run.variants if _pooled(run, one) is not None), None)
    if shown is None:
        return []
    pooled = _pooled(run, shown)
    pairs = [f"- {_escaped(line)}" for line in confused_pairs(pooled)] or ["Nothing is."]
    rows = sorted(per_class_rows(pooled), key=lambda row: float(row[2]))
    table = _markdown(("class", "clips", "accuracy", "taken for (clips)"), rows)
    of = "clips of all signers" if len(run.folds) > 1 else "all clips"
    lines = ["### What is taken for what", "", f"By the {shown.name} file, {of}.", "", *pairs, ""]
    return [*lines, _folded(f"All {len(rows)} classes, in percent, the hardest first", table)]


def _matrices(run: Run, output: Path) -> list[str]:
    """A picture a signer and variant, in folds; the one over all signers in front of them."""
    route, lines = run.main_route, []
    wanted = [
        (fold, variant, evaluation)
        for fold in (["all signers", *run.folds] if len(run.folds) > 1 else run.folds)
        for variant in run.variants
        if (evaluation := _evaluation(run, fold, variant)) is not None
    ]
    pictures: dict[str, list[str]] = {}
    for fold, variant, evaluation in track(wanted, f"{run.data}: drawing confusion matrices"):
        path = output / MATRICES / f"{_file_name(run.data, fold, variant.name)}.png"
        draw_evaluation(evaluation, f"{run.data}, {fold}, {variant.name}", path)
        pictures.setdefault(fold, []).append(f"![{fold}, {variant.name}]({MATRICES}/{path.name})")
    lines = [_folded(fold, "\n\n".join(drawn)) for fold, drawn in pictures.items()]
    by = f"Route {route}; each row is percent of that class's clips.\n"
    return ["### Confusion matrices", "", by, *lines] if lines else []


def _operators(run: Run) -> list[str]:
    return [
        _folded(table.title, _markdown(table.columns, table.rows))
        for table in book_tables.operators(run)
    ]


def _evaluation(run: Run, fold: str, variant: Variant) -> Predictions | None:
    if fold == "all signers":
        return _pooled(run, variant)
    result = run.find(variant, run.main_route, fold)
    return result.evaluation if result else None


def _pooled(run: Run, variant: Variant) -> Predictions | None:
    """All folds' clips as one; None where a fold has none."""
    found = [m.evaluation if m else None for m in run.all_folds(variant, run.main_route)]
    return None if None in found else pool(found, variant.name)


def _file_name(*parts: str) -> str:
    return re.sub(r"[^\w.-]+", "_", "_".join(parts))


def _page(text: str, folder: Path) -> str:
    """The Markdown as one HTML page that carries its pictures."""
    from markdown import markdown

    body = markdown(text, extensions=["tables", "md_in_html"])

    def carried(match: re.Match[str]) -> str:
        content = base64.b64encode((folder / match[1]).read_bytes()).decode()
        return f'src="data:image/png;base64,{content}"'

    body = re.sub(r'src="([^"]+\.png)"', carried, body)
    title = text.partition("\n")[0].lstrip("# ")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>{body}</html>\n'
    )
