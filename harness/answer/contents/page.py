"""All that the page of a report shows, from its frames."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness import __version__
from harness.answer.charts import Sheet
from harness.answer.contents.claims import judged_references, published_figure
from harness.answer.contents.nodes import fleet_of
from harness.answer.contents.origin import SOURCES, instant, node_grid, package_grid, sources
from harness.answer.contents.several import listed_runs, not_alike, runs_apart
from harness.answer.contents.table import columns, filter_axes, table_rows
from harness.answer.contents.trust import (
    discarded,
    doubts_by_setting,
    failures,
    noise_floors,
    spread,
    trust,
    unjudged,
    warned,
)
from harness.answer.tables import Tables
from harness.domain.design import CONFIDENCE
from harness.domain.duration import seconds
from harness.record import runs

if TYPE_CHECKING:
    from harness.report.content import Content


_MEANINGS: Final = (
    (
        "Training clock",
        "Time is of training alone: data in place, programs compiled, the device drained before both readings. "
        "Evaluation, compiling, loading and recording have stopwatches of their own and are not in it.",
    ),
    (
        "Time to the target",
        "When the metric first reached the target on the training clock, interpolated within the epoch. The median "
        "over the repeats, in which a trial that missed counts as infinite; “reached” says how many did reach it.",
    ),
    (
        "Interval",
        f"{100 * CONFIDENCE:g} % of the medians that chance could have given, by resampling the repeats; none for a "
        "single one. Of up to five repeats it is the range from the least to the largest.",
    ),
    ("Best", "The best value of the metric in any epoch, the median over the repeats."),
    ("s/epoch, samples/s", "Medians over the epochs; those flagged as warm-up are left out where there are others."),
    (
        "Energy",
        "Of the devices, idle power and all; only of trials whose readings are valid. CPU energy is that of whole "
        "packages.",
    ),
    ("Rank", "By the time to the target, or without one by the best value of the metric."),
    ("–", "Not measured, which is not 0."),
)


def contents(tables: Tables, *, results: Path, where: Sequence[str] = (), asked: bool = False) -> Content:
    """Return what a report shows of these tables.

    `results` is where noise floors of the nodes are looked for; `where` and `asked` are what to say of the selection:
    its expressions, and whether the target is the user's instead of the suite's.
    """
    from harness.analyse.conclude import conclude
    from harness.report.content import Content

    gathered = tables.gathered
    target = gathered.target
    judged = judged_references(tables)
    floors = noise_floors(tables, results)
    said = conclude(
        gathered.trials,
        gathered.epochs,
        metric=tables.metric,
        at_least=None if target is None else target.at_least,
        at_most=None if target is None else target.at_most,
        naming=gathered.naming,
        references=judged,
        noise=spread(floors),
        by=tables.by,
    )
    doubts = doubts_by_setting(tables)
    headings, cells = columns(tables, doubts)
    axes, values = filter_axes(tables)
    sheet = Sheet(tables)
    apart = runs_apart(tables)
    figures = (
        *sheet.figures(), *fleet_of(tables, sheet), *published_figure(judged), *listed_runs(apart), *sheet.telemetry()
    )  # fmt: skip
    suites = list(dict.fromkeys(str(run.get("suite")) for run in gathered.runs))
    began = min((str(run.get("started_at")) for run in gathered.runs), default="")
    title = ", ".join(suites[:3]) + (" …" if len(suites) > 3 else "")
    return Content(
        title=f"{title} · " + (instant(began) if len(gathered.runs) == 1 else f"{len(gathered.runs):,} runs"),
        question=_question(gathered.runs),
        answer=said.sentence,
        answer_details=said.details,
        notices=(*_notices(tables, where, asked), *not_alike(apart)),
        facts=tuple(_facts(tables)),
        headings=headings,
        rows=table_rows(tables, cells, values),
        axes=axes,
        ranked_by=(
            f"Ranked by the time to {tables.goal_text}, then by the best {tables.metric}."
            if target is not None
            else f"Ranked by the best {tables.metric}."
        ),
        figures=figures,
        datasets=sheet.datasets,
        warnings=tuple(warned(tables)),
        unjudged=tuple(unjudged(tables)),
        discarded=discarded(tables),
        trust=(*not_alike(apart), *trust(tables, floors)),
        failures=tuple(failures(tables)),
        nodes=node_grid(gathered.results.nodes),
        packages=package_grid(gathered.results.nodes),
        sources=tuple(sources(gathered.runs)),
        meanings=_MEANINGS,
        made=f"Made by harness {__version__} on {instant(runs.now_text())} from "
        + ", ".join(str(run.get("run_id")) for run in gathered.runs[:SOURCES])
        + (" …" if len(gathered.runs) > SOURCES else ""),
    )


def _question(all_runs: Sequence[Mapping[str, Any]]) -> str:
    """Return what the suites ask: the first line of each one's docstring, or its name."""
    asked: dict[str, None] = {}
    for run in all_runs:
        try:
            told = ast.get_docstring(ast.parse(str(run.get("suite_text") or ""))) or ""
        except (SyntaxError, ValueError):
            told = ""
        asked[told.strip().partition("\n\n")[0].replace("\n", " ") or str(run.get("suite"))] = None
    return " ".join(list(asked)[:3]) + (" …" if len(asked) > 3 else "")


def _notices(tables: Tables, where: Sequence[str], asked: bool) -> Iterator[str]:
    gathered = tables.gathered
    for run in gathered.runs:
        if runs.is_live(run):
            recorded = int((gathered.results.trials["run_id"] == run.get("run_id")).sum())
            planned = run.get("trials")
            yield (
                f"Run {run.get('run_id')} had not ended when this page was made: {recorded:,}"
                f"{'' if planned is None else f' of {planned:,}'} trials are recorded."
            )
        elif run.get("state") not in ("completed", "failed", None):
            yield f"Run {run.get('run_id')} was {run.get('state')}{_left(run)}."
    bad = int((gathered.trials["status"] != "completed").sum())
    if bad:
        yield f"{bad:,} of {len(gathered.trials):,} trials did not complete: see Failures."
    if where:
        yield f"Only trials where {' and '.join(where)}: {len(gathered.trials):,} of {len(gathered.results.trials):,}."
    if asked:
        yield f"The target is {tables.goal_text}, as asked for, whatever the suites say."


def _left(run: Mapping[str, Any]) -> str:
    return f", with {run['pending']:,} trials not run" if run.get("pending") else ""


def _facts(tables: Tables) -> Iterator[tuple[str, str]]:
    trials, every = tables.gathered.trials, tables.gathered.runs
    done = int((trials["status"] == "completed").sum())
    yield "Trials", f"{done:,} of {len(trials):,} completed" if done < len(trials) else f"{done:,} completed"
    repeats = sorted(set(tables.settings["trials"].tolist()))
    each = f"{repeats[0]}" if len(repeats) == 1 else f"{repeats[0]} to {repeats[-1]}"
    told = f"{len(tables.settings):,}, with {each} repeat{'' if each == '1' else 's'}"
    told += " each" if len(tables.settings) > 1 else ""
    yield "Settings", told + (f", from {len(every):,} runs" if len(every) > 1 else "")
    if tables.gathered.target is not None:
        yield "Target", tables.goal_text
    hardware = [str(one) for one in trials["hardware"].dropna().unique()]
    yield "Hardware", "; ".join(hardware[:3]) + (f" and {len(hardware) - 3} more" if len(hardware) > 3 else "")
    took = [run["timings"]["total_s"] for run in every if (run.get("timings") or {}).get("total_s") is not None]
    if len(took) == len(every):
        yield ("Run took" if len(took) == 1 else "Runs took"), seconds(sum(took))
