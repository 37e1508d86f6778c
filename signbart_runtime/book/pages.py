"""The results report: tables, confusion matrices and training curves of everything that was run.

Markdown with pictures beside it, the same as one self-contained page, and the tables as CSV.
"""

from __future__ import annotations

import base64
import datetime
import re
from collections.abc import Sequence
from pathlib import Path

from bridge.routes import ROUTES
from signbart.console import NOT_RUN, markdown_table
from signbart.files import atomic_write, make_folder, write_text
from signbart.training.folds import ALL
from signbart.training.predictions import (
    Predictions,
    draw_evaluation,
    per_class_csv,
    per_class_rows,
    pool,
)
from signbart_runtime.book import tables as book_tables
from signbart_runtime.book.confidence import confidence
from signbart_runtime.book.csv_tables import as_csv, joined, parity_table, summary_table
from signbart_runtime.book.results import Run, Variant
from signbart_runtime.book.tables import Table
from signbart_runtime.folds.layout import PLAIN, QAT

MATRICES, CURVES = "confusion_matrices", "training_curves"
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;"
    "color:#1b1b1b;background:#fff}table{border-collapse:collapse;margin:1rem 0;display:block;"
    "overflow-x:auto}th,td{padding:.25rem .6rem;border-bottom:1px solid #ddd;white-space:nowrap}"
    "th{border-bottom:2px solid #888}img{max-width:100%}summary{cursor:pointer;margin:.3rem 0}"
    "code{background:#f3f3f3;padding:0 .2rem}"
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
        f"{run.data} {variant.name} {main_route(run)}": _pooled(run, variant, main_route(run))
        for run in runs
        for variant in run.variants
    }
    write_text(output / "per_class_accuracy.csv", per_class_csv(pooled))
    write_text(output / "model_info.csv", as_csv(joined(runs, book_tables.model_info)))
    write_text(output / "parity_table.csv", as_csv(parity_table(runs)))
    text = "\n".join(
        [f"# Results, {date.isoformat()}", "", *(_chapter(run, output) for run in runs)]
    )
    markdown = output / f"report_{date.isoformat()}.md"
    page = markdown.with_suffix(".html")
    write_text(markdown, text)
    write_text(page, _page(text, output))
    return [markdown, page]


def main_route(run: Run) -> str:
    """The route whose artifacts are shown where there is room for one: the first of the table."""
    return run.routes[0] if run.routes else next(iter(ROUTES))


def _chapter(run: Run, output: Path) -> str:
    """One run: what it is, tables, pictures."""
    route = main_route(run)
    tables = [book_tables.summary(run, route), book_tables.per_signer(run, route)]
    tables += [book_tables.by_route(run), confidence(run, route), book_tables.parity(run)]
    rejected = book_tables.failures(run)
    tables += [rejected] if rejected.rows else []
    parts = [f"## {run.data}", "", _about(run, route), ""]
    parts += [_section(table) for table in tables]
    parts += [_section(book_tables.model_info(run)), _arithmetic(), ""]
    parts += [_section(book_tables.operators(run))]
    parts += ["### Training curves", "", *_curves(run, output), ""]
    parts += ["### Classes", "", *_classes(run, route), ""]
    parts += ["### Confusion matrices", "", *_matrices(run, route, output), ""]
    return "\n".join(parts)


def _section(table: Table) -> str:
    return f"### {table.title}\n\n{_markdown(table.columns, table.rows)}"


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in which names from the data are text, not markup."""
    return markdown_table(columns, [[_escaped(cell) for cell in row] for row in rows])


def _escaped(text: str) -> str:
    text = text.replace("&", "&amp;").replace("<", "&lt;")
    # An underscore within a word, as in int8_io, is none anyway.
    return re.sub(r"([\\|*`\[\]]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", text)


def _about(run: Run, route: str) -> str:
    """What was run, on what, and how to read the tables."""
    folds, title = run.folds, run.framework.title
    clips = sum(max(r.clips for r in run.results if r.fold == fold) for fold in folds)
    how = f"one training in {title} on all signers, evaluated on {_judges(run)}"
    if folds != [ALL]:
        count = f"{len(folds)} trainings" if len(folds) > 1 else "1 training"
        how = f"{count} in {title}, each evaluated on the signer it never saw"
    lines = [
        f"{clips:,} clips; {how}. FP32: the float .tflite. PTQ: quantized after training. QAT: "
        "trained on with the same arithmetic simulated, then quantized. Every artifact's scores "
        f"come from running that very file. Where one route is shown it is {route}. "
        f'"{NOT_RUN}": not measured.'
    ]
    latency = run.latency
    if latency is not None:
        lines.append(
            f"Latency: median of {latency['rounds']} bare inferences, {latency['frames']} frames, "
            f"{latency['threads']} thread, interleaved with the float32 of the same route, on "
            f"{latency['machine']}; only the ratios mean anything elsewhere."
        )
    return "\n\n".join(lines)


def _judges(run: Run) -> str:
    """What full-data training was evaluated on, and how much that says."""
    held_out = run.held_out(ALL)
    if held_out["test"]:
        return "clips that are marked test"
    if held_out["val"]:
        return "validation clips, which it did not train on, but which chose its best epoch"
    return "clips that it was trained on, so that its scores say nothing of others"


def _arithmetic() -> str:
    from signbart_torch.training.flops import COUNTED

    return (
        f"FLOPs in PyTorch: torch.utils.flop_counter, one clip of full length; counted are "
        f"{COUNTED}. In an artifact: twice the multiply-accumulates of its products "
        "(FULLY_CONNECTED, BATCH_MATMUL and convolutions)."
    )


def _curves(run: Run, output: Path) -> list[str]:
    """A picture a training, with a line a fold."""
    from signbart.pictures import draw_curves

    lines = []
    for training in (PLAIN, *QAT):
        histories = {fold: run.history(fold, training) for fold in run.folds}
        histories = {fold: rows for fold, rows in histories.items() if rows}
        name = "float training" if training == PLAIN else f"QAT for {QAT[training]}"
        if not histories:
            lines += [f"{name}: {NOT_RUN}", ""]
            continue
        path = output / CURVES / f"{_file_name(run.data, training)}.png"
        with atomic_write(path) as picture:
            draw_curves(histories, f"{run.data}, {name}", picture)
        lines += [f"![{name}]({CURVES}/{path.name})", ""]
    return lines


def _classes(run: Run, route: str) -> list[str]:
    """The float .tflite's classes over all folds, the hardest first."""
    fp32 = run.variants[0]
    pooled = _pooled(run, fp32, route)
    if pooled is None:
        return [NOT_RUN]
    rows = sorted(per_class_rows(pooled), key=lambda row: float(row[2]))
    table = _markdown(("class", "clips", "accuracy", "taken for (clips)"), rows)
    return [f"FP32, route {route}, clips of all signers, in percent; hardest first.", "", table]


def _matrices(run: Run, route: str, output: Path) -> list[str]:
    """A picture a signer and variant, in folds; the one over all signers in front of them."""
    lines = [f"Route {route}; each row is percent of that class's clips."]
    for fold in ["all signers", *run.folds] if len(run.folds) > 1 else run.folds:
        pictures = []
        for variant in run.variants:
            if fold == "all signers":
                evaluation = _pooled(run, variant, route)
            else:
                result = run.find(variant, route, fold)
                evaluation = result.evaluation if result else None
            if evaluation is None:
                pictures.append(f"{variant.name}: {NOT_RUN}")
                continue
            path = output / MATRICES / f"{_file_name(run.data, fold, variant.name)}.png"
            draw_evaluation(evaluation, f"{run.data}, {fold}, {variant.name}", path)
            pictures.append(f"![{fold}, {variant.name}]({MATRICES}/{path.name})")
        body = "\n\n".join(pictures)
        lines.append(f'<details markdown="1"><summary>{fold}</summary>\n\n{body}\n\n</details>')
    return ["\n\n".join(lines)]


def _pooled(run: Run, variant: Variant, route: str) -> Predictions | None:
    """All folds' clips as one; None where a fold has none."""
    found = [m.evaluation if m else None for m in run.all_folds(variant, route)]
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
