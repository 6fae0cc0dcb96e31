"""The frames of a report → all that its page shows."""

from __future__ import annotations

import ast
import json
import math
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import __version__
from harness.answer import published
from harness.answer.charts import Sheet
from harness.answer.tables import CONFIDENCE, Tables
from harness.domain.doubts import DOUBTS
from harness.domain.duration import seconds, significant
from harness.domain.errors import HarnessError
from harness.domain.naming import axis, place_and_seed
from harness.record import runs

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from harness.analyse.compare import Spread
    from harness.analyse.references import Judged
    from harness.report.content import Axis, Cell, Content, Failure, Figure, Grid, Heading, Row, Source, Warned

_VALUES = 30  # of an axis that the page can be filtered by
_SOURCES = 20  # runs that are described one by one
_NODES = 50
_RUNS = 100
_NEVER = 1e300  # what a time that is infinite is sorted by
_ENERGIES = {
    "median_gpu_j_to_target": "GPU J to target",
    "median_gpu_j_per_sample": "GPU J/sample",
    "median_cpu_j_to_target": "CPU J to target",
    "median_cpu_j_per_sample": "CPU J/sample",
}
_MEANINGS = (
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
    judged = _judged(tables)
    floors = _floors(tables, results)
    said = conclude(
        gathered.trials,
        gathered.epochs,
        metric=tables.metric,
        at_least=None if target is None else target.at_least,
        at_most=None if target is None else target.at_most,
        naming=gathered.naming,
        references=judged,
        noise=_spread(floors),
        by=tables.by,
    )
    doubts = _doubts(tables)
    headings, cells = _columns(tables, doubts)
    axes, values = _axes(tables)
    sheet = Sheet(tables)
    apart = _apart(tables)
    figures = (*sheet.figures(), *_published(judged), *_runs(apart), *sheet.telemetry())
    suites = list(dict.fromkeys(str(run.get("suite")) for run in gathered.runs))
    began = min((str(run.get("started_at")) for run in gathered.runs), default="")
    title = ", ".join(suites[:3]) + (" …" if len(suites) > 3 else "")
    return Content(
        title=f"{title} · " + (_instant(began) if len(gathered.runs) == 1 else f"{len(gathered.runs):,} runs"),
        question=_question(gathered.runs),
        answer=said.sentence,
        answer_details=said.details,
        notices=(*_notices(tables, where, asked), *_not_alike(apart)),
        facts=tuple(_facts(tables)),
        headings=headings,
        rows=_rows(tables, cells, values),
        axes=axes,
        ranked_by=(
            f"Ranked by the time to {tables.goal_text}, then by the best {tables.metric}."
            if target is not None
            else f"Ranked by the best {tables.metric}."
        ),
        figures=figures,
        datasets=sheet.datasets,
        warnings=tuple(_warnings(tables)),
        unjudged=tuple(_unjudged(tables)),
        discarded=_discarded(tables),
        trust=(*_not_alike(apart), *_trust(tables, floors)),
        failures=tuple(_failures(tables)),
        nodes=_nodes(gathered.results.nodes),
        packages=_packages(gathered.results.nodes),
        sources=tuple(_sources(gathered.runs)),
        meanings=_MEANINGS,
        made=f"Made by harness {__version__} on {_instant(runs.now_text())} from "
        + ", ".join(str(run.get("run_id")) for run in gathered.runs[:_SOURCES])
        + (" …" if len(gathered.runs) > _SOURCES else ""),
    )


# The answer ----------------------------------------------------------------------------------------------------------


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


# The table -----------------------------------------------------------------------------------------------------------


def _columns(tables: Tables, doubts: Sequence[str]) -> tuple[tuple[Heading, ...], list[tuple[Cell, ...]]]:
    """Return the columns of the table of settings, and its cells row by row."""
    from harness.analyse.frames import floats
    from harness.report.content import Cell, Heading

    settings = tables.settings

    def number(column: str, text: Any) -> list[Cell]:
        return [_cell(value, text) for value in floats(settings, column).tolist()]

    found: list[tuple[Heading, list[Cell]]] = []
    if tables.gathered.target is not None:
        columns = ("median", "low", "high")
        spans = zip(*(floats(settings, f"{name}_time_to_target_s").tolist() for name in columns), strict=True)
        found.append(
            (
                Heading(
                    text=f"Time to {tables.goal_text}",
                    help=f"median of the repeats ({100 * tables.confidence:g} % interval)",
                ),
                [*map(_time, spans)],
            )
        )
        reached = [
            _share(*one) for one in zip(settings["reached"].tolist(), settings["reached_of"].tolist(), strict=True)
        ]
        found.append((Heading(text="Reached", help="trials that reached the target, of those that could"), reached))
    best = Heading(text=f"Best {tables.metric}", help="median over the repeats of each one's best epoch")
    digits = _decimals(floats(settings, "median_best"))
    found.append((best, number("median_best", lambda value: f"{value:.{digits}f}")))
    found.append((Heading(text="s/epoch", help="median"), number("median_train_s", significant)))
    found.append((Heading(text="Samples/s", help="median"), number("median_samples_per_s", lambda one: f"{one:,.0f}")))
    for column, title in _ENERGIES.items():
        cells = number(column, lambda value: f"{value:.3g}")
        if any(cell.sort is not None for cell in cells):
            found.append((Heading(text=title, help="median"), cells))
    done = [_share(*one) for one in zip(settings["completed"].tolist(), settings["trials"].tolist(), strict=True)]
    found.append((Heading(text="Trials", help="completed, of all"), done))
    if any(doubts):
        told = [Cell(text=one or "–", sort=one or None) for one in doubts]
        found.append((Heading(text="Doubts", numeric=False, help="warnings, and on how many trials"), told))
    kept = [one for one in found if any(cell.text != "–" for cell in one[1])]
    return tuple(heading for heading, _ in kept), list(zip(*(cells for _, cells in kept), strict=True))


def _decimals(values: np.ndarray) -> int:
    """Return how many decimals four significant digits of the smallest value are, or fewer where all end before."""
    numbers = [abs(float(f"{value:.4g}")) for value in values.tolist() if math.isfinite(value) and value != 0]
    if not numbers:
        return 0
    most = min(12, max(0, 3 - math.floor(math.log10(min(numbers)))))
    return next(digits for digits in range(most + 1) if digits == most or all(
        round(number, digits) == round(number, most) for number in numbers))  # fmt: skip


def _cell(value: float, text: Any) -> Cell:
    from harness.report.content import Cell

    if math.isnan(value):
        return Cell(text="–")
    return Cell(text=text(value), sort=value) if math.isfinite(value) else Cell(text="never", sort=_NEVER)


def _time(span: tuple[float, float, float]) -> Cell:
    from harness.report.content import Cell

    median, low, high = span
    if median != median:
        return Cell(text="–")
    within = f" ({seconds(low)} to {seconds(high)})" if low == low and high == high and low != high else ""
    return Cell(text=f"{seconds(median)}{within}", sort=min(median, _NEVER))


def _share(part: Any, of: Any) -> Cell:
    from harness.report.content import Cell

    if part != part or of != of or not of:
        return Cell(text="–")
    return Cell(text=f"{int(part)}/{int(of)}", sort=part / of)


def _axes(tables: Tables) -> tuple[tuple[Axis, ...], list[tuple[str, ...]]]:
    """Return what settings can be chosen by, and each setting's values: axes, arms and hardware where they vary."""
    from harness.report.content import Axis

    settings = tables.settings
    columns = dict(tables.varied)
    columns |= {name: name for name in ("arm", "hardware") if name in tables.by and settings[name].nunique() > 1}
    found, of_rows = [], []
    for path, column in columns.items():
        values = settings[column].tolist()
        texts = [axis(value) for value in values]
        distinct = {text: value for value, text in zip(values, texts, strict=True)}
        if 1 < len(distinct) <= _VALUES:
            found.append(Axis(name=path, values=tuple(sorted(distinct, key=lambda text: _order(distinct[text])))))
            of_rows.append(texts)
    rows: list[tuple[str, ...]] = list(zip(*of_rows, strict=True)) if of_rows else [()] * len(settings)
    return tuple(found), rows


def _order(value: Any) -> tuple[int, float, str]:
    """Return what sorts an axis's values: numbers by size, then texts, what is missing last."""
    text = axis(value)
    if text == "–":
        return 2, 0.0, ""
    return (0, float(value), "") if isinstance(value, int | float) else (1, 0.0, text)


def _rows(tables: Tables, cells: Sequence[tuple[Cell, ...]], values: Sequence[tuple[str, ...]]) -> tuple[Row, ...]:
    from harness.report.content import Row

    names = zip(*(tables.settings[name].tolist() for name in ("key", "label", "name")), strict=True)
    return tuple(
        Row(key=key, label=label, whole="" if whole == label else whole, axes=of_axes, cells=of_row)
        for (key, label, whole), of_axes, of_row in zip(names, values, cells, strict=True)
    )


# What was published --------------------------------------------------------------------------------------------------


def _judged(tables: Tables) -> list[Judged]:
    """Return the references that were recorded with the runs, with their verdicts."""
    from harness.analyse.frames import owners
    from harness.analyse.references import judge

    gathered, found = tables.recorded, []
    for folder, run in zip(gathered.results.folders, gathered.runs, strict=True):
        known = published.recorded_with(folder, run)
        if not known:
            continue
        trials = gathered.trials[gathered.trials["run_id"] == run.get("run_id")]
        epochs = gathered.epochs[owners(trials, gathered.epochs) >= 0]
        every = int((gathered.results.trials["run_id"] == run.get("run_id")).sum())
        found += judge(
            known, trials, epochs, gathered.results.nodes, axes=gathered.naming, target=run.get("target"),
            unfinished=every < int(run.get("trials") or 0),
        )  # fmt: skip
    return found


def _published(judged: Sequence[Judged]) -> Iterator[Figure]:
    from harness.report.content import Figure, Grid

    if not judged:
        return
    lines = [published.line(row) for row in judged]
    names = [name for name in lines[0] if name != "arm" or len({line["arm"] for line in lines}) > 1]
    yield Figure(
        id="published",
        title="Published beside measured",
        text="What was measured is the median of the repeats ± their standard deviation.",
        grid=Grid(
            headings=tuple(names),
            rows=tuple(tuple(line[name] for name in names) for line in lines),
            numeric=frozenset({"published", "measured", "repeats"}),
        ),
        notes=tuple(published.sources(judged)),
    )


# Several runs --------------------------------------------------------------------------------------------------------


def _apart(tables: Tables) -> pd.DataFrame | None:
    """Return how the seconds an epoch of each run lie to those of the first; None of a single run."""
    from harness import analyse

    gathered = tables.gathered
    if len(gathered.runs) < 2:
        return None
    found: pd.DataFrame = analyse.runs_apart(gathered.trials, gathered.epochs, gathered.runs, gathered.results.nodes)
    states = {run.get("run_id"): str(run.get("state")) for run in gathered.runs}
    return found.assign(state=[states.get(run_id, "–") for run_id in found["run_id"].tolist()])


def _runs(apart: pd.DataFrame | None) -> Iterator[Figure]:
    from harness.report.content import Figure, Grid

    if apart is None:
        return
    rows = [
        (
            str(row["run_id"]), _instant(axis(row["began"])), axis(row["commit"])[:10], axis(row["hardware"]),
            f"{row['trials']:,}", row["state"],
            "–" if math.isnan(row["ratio"]) else f"{significant(row['ratio'])}{_from_to(row['low'], row['high'])}",
            str(row["verdict"]),
        )
        for row in apart.head(_RUNS).to_dict("records")
    ]  # fmt: skip
    left = len(apart) - len(rows)
    yield Figure(
        id="runs",
        title="Runs",
        text=(
            "All figures are of the trials of all these runs together. The seconds an epoch are against those of the "
            "first run, in the settings that both have, with their 98 % interval."
        ),
        grid=Grid(
            headings=("run", "began", "commit", "hardware", "trials", "state", "s/epoch, ratio", "against the first"),
            rows=tuple(rows),
            numeric=frozenset({"trials", "s/epoch, ratio"}),
        ),
        notes=(f"{left:,} more runs are not listed here.",) if left else (),
    )


def _from_to(low: float, high: float) -> str:
    return "" if math.isnan(low) or math.isnan(high) else f" ({significant(low)} to {significant(high)})"


def _not_alike(apart: pd.DataFrame | None) -> Iterator[str]:
    """Yield a sentence where runs that are put together are not alike."""
    if apart is None:
        return
    found = apart[apart["verdict"].isin(["slower", "faster"])].to_dict("records")
    if found:
        told = [
            f"{row['run_id']} takes {significant(row['ratio'])} times as long an epoch"
            f"{_from_to(row['low'], row['high'])}"
            for row in found[:3]
        ]
        more = f"; {len(found) - 3:,} more runs differ too" if len(found) > 3 else ""
        yield (
            f"These runs are not alike: against {apart['run_id'].iloc[0]}, {'; '.join(told)}{more}. Medians and "
            "intervals of times are of a mixture of them; a report on each run alone, or harness compare, keeps them "
            "apart."
        )


# How far it can be trusted -------------------------------------------------------------------------------------------


def _doubts(tables: Tables) -> list[str]:
    """Return for each setting how many of its trials carry each warning, as "2 contended, 1 noisy": most first."""
    from harness.analyse.discard import listed

    trials = tables.gathered.trials
    counts: dict[tuple[Any, ...], Counter[str]] = {}
    identities = trials[list(tables.by)].astype(object).itertuples(index=False, name=None)
    for identity, names in zip(identities, listed(trials, "warnings"), strict=True):
        counts.setdefault(identity, Counter()).update(names)
    told = []
    for identity in tables.settings[list(tables.by)].astype(object).itertuples(index=False, name=None):
        found = counts.get(identity, Counter())
        told.append(", ".join(f"{found[name]}\u00a0{name}" for name in _by_count(found)))
    return told


def _by_count(counts: Mapping[str, int]) -> list[str]:
    """Return the names of warnings, the most frequent first, and those alike by their letters."""
    return sorted(counts, key=lambda name: (-counts[name], name))


def _warnings(tables: Tables) -> Iterator[Warned]:
    from harness.analyse.discard import listed
    from harness.report.content import Warned

    trials = tables.gathered.trials
    carrying: dict[str, list[str]] = {}
    warned = listed(trials, "warnings")
    concerned = trials[[bool(names) for names in warned]]
    for row, names in zip(concerned.to_dict("records"), filter(None, warned), strict=True):
        for name in names:
            carrying.setdefault(name, []).append(place_and_seed(row, tables.gathered.naming))
    for name in _by_count({name: len(trials) for name, trials in carrying.items()}):
        doubt = DOUBTS.get(name)
        yield Warned(
            name=name,
            count=len(carrying[name]),
            meaning=doubt.meaning.replace("`", "") if doubt is not None else "a warning of a newer version",
            remedy=doubt.remedy.replace("`", "") if doubt is not None else "",
            trials=tuple(carrying[name]),
        )


def _unjudged(tables: Tables) -> Iterator[str]:
    from harness.analyse.discard import judged, listed

    trials = tables.gathered.trials
    unknown = int((~judged(trials)).sum())
    if unknown:
        yield f"Not judged: {unknown:,} trials, recorded before there were warnings."
    counts: Counter[str] = Counter(name for names in listed(trials, "unjudged") for name in names)
    if counts:
        told = ", ".join(f"{name} (on {counts[name]:,})" for name in _by_count(counts))
        yield f"Could not be judged, since what they go by was not read or not seen: {told}."


def _discarded(tables: Tables) -> str:
    left = tables.gathered.discarded
    if left is None:
        return ""
    kept = f" {left.unjudged:,} were kept although it could not be judged." if left.unjudged else ""
    return f"Left out of everything: {len(left.trials):,} of {left.of:,} trials, for {', '.join(left.names)}.{kept}"


def _trust(tables: Tables, floors: Mapping[str, Mapping[str, Any] | None]) -> Iterator[str]:
    from harness.analyse.drift import drift

    found = drift(tables.gathered.trials, tables.gathered.epochs)
    if found is None:
        yield "No setting was repeated, so that drift over the run cannot be told from the settings' own differences."
    else:
        yield found.conclusion
    for node, floor in floors.items():
        if floor is None:
            yield f"The noise floor of node {node} is not known; harness aa SUITE measures it."
        else:
            yield (
                f"Noise floor of node {node}: equal things, repeated {floor['repeats']} times, came out up to "
                f"{100 * (floor['ratio'] - 1):.1f} % apart by chance ({floor['figure']}, measured "
                f"{_instant(str(floor['date']))})."
            )


def _floors(tables: Tables, results: Path) -> dict[str, Mapping[str, Any] | None]:
    """Return the newest noise floor of each node that trials ran on, as run.json holds it; None: not measured."""
    from harness.domain.noise_floor import newest_floor

    gathered = tables.gathered
    known = list(gathered.runs)
    try:
        known += [runs.read_run_file(folder) for folder in runs.find_runs(results)] if results.is_dir() else []
    except HarnessError:  # a run that cannot be read is no reason to go without a report on another
        known = list(gathered.runs)
    used = set(gathered.trials["node"].dropna())
    nodes = gathered.results.nodes.drop_duplicates("node")
    return {
        row["node"]: newest_floor(known, {str(name): value for name, value in row.items()})
        for row in nodes.to_dict("records")
        if row["node"] in used
    }


def _spread(floors: Mapping[str, Mapping[str, Any] | None]) -> Spread | None:
    """Return the spread of times on the only node; of several none holds for all."""
    from harness.analyse.noise import NoiseFloor

    found = list(floors.values())
    return NoiseFloor.from_plain(found[0]).spread if len(found) == 1 and found[0] is not None else None


def _failures(tables: Tables) -> Iterator[Failure]:
    from harness.report.content import Failure

    trials = tables.gathered.trials
    alike: dict[tuple[str, str], list[str]] = {}
    for row in trials[trials["status"] != "completed"].to_dict("records"):
        reason = row["error"] if isinstance(row["error"], str) else "no reason is recorded"
        alike.setdefault((row["status"], reason), []).append(place_and_seed(row, tables.gathered.naming))
    for (status, reason), names in sorted(alike.items(), key=lambda item: -len(item[1])):
        yield Failure(status=status, reason=reason, count=len(names), trials=tuple(names))


# Where it ran, and how to do it again --------------------------------------------------------------------------------


def _nodes(nodes: pd.DataFrame) -> Grid | None:
    from harness.report.content import Grid

    rows = list(dict.fromkeys(tuple(_node(row).values()) for row in nodes.to_dict("records")))
    if not rows:
        return None
    headings = list(_node(nodes.to_dict("records")[0]))
    kept = [place for place in range(len(headings)) if any(row[place] not in ("", "–") for row in rows)]
    return Grid(
        headings=tuple(headings[place] for place in kept),
        rows=tuple(tuple(row[place] for place in kept) for row in rows[:_NODES]),
        numeric=frozenset({"threads", "cores", "memory"}),
    )


def _node(row: Mapping[Any, Any]) -> dict[str, str]:
    within = [axis(row[name]) for name in ("container", "virtualisation")]
    return {
        "node": axis(row["node"]),
        "CPU": axis(row["cpu_model"]),
        "threads": axis(row["cpu_count_logical"]),
        "cores": axis(row["cpu_count_physical"]),
        "memory": "–" if axis(row["memory_bytes"]) == "–" else f"{row['memory_bytes'] / 2**30:.0f} GiB",
        "GPUs": _gpus(row["gpu_names"]),
        "driver": axis(row["gpu_driver"]),
        "governor": axis(row["governor"]),
        "system": axis(row["os"]),
        "kernel": axis(row["kernel"]),
        "Python": axis(row["python"]),
        "within": ", ".join(one for one in within if one != "–"),
    }


def _packages(nodes: pd.DataFrame) -> Grid | None:
    """Return the versions of packages and the variables of the environment; where nodes differ, all of them."""
    from harness.report.content import Grid

    found: dict[str, dict[str, None]] = {}
    for column in ("versions", "environment"):
        for told in nodes[column].dropna().tolist():
            for name, value in json.loads(told).items():
                found.setdefault(name, {})[str(value)] = None
    if not found:
        return None
    rows = tuple((name, "; ".join(one or "(empty)" for one in values)) for name, values in found.items())
    return Grid(headings=("name", "value"), rows=rows)


def _gpus(names: Any) -> str:
    if not isinstance(names, list | tuple) and not hasattr(names, "tolist"):
        return "–"
    counts = Counter(map(str, names))
    return ", ".join(f"{count} × {name}" for name, count in counts.items()) or "none"


def _sources(all_runs: Sequence[Mapping[str, Any]]) -> Iterator[Source]:
    from harness.report.content import Source

    told: set[str] = set()
    for run in all_runs[:_SOURCES]:
        text = str(run.get("suite_text") or "")
        digest = str(run.get("suite_sha256"))
        yield Source(
            title=f"{run.get('suite')} {run.get('run_id')}",
            facts=tuple(_how(run)),
            command=_command(run),
            suite_path=str(run.get("suite_path") or "the suite"),
            suite_text="" if digest in told else text,
        )
        told.add(digest)


def _command(run: Mapping[str, Any]) -> str:
    words = list(map(str, run.get("command") or ["harness", "run", run.get("suite_path")]))
    program = Path(words[0]).name
    return shlex.join([*(["python", "-m", "harness"] if program == "__main__.py" else [program]), *words[1:]])


def _how(run: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "Run", str(run.get("run_id"))
    began, ended = run.get("started_at"), run.get("ended_at")
    yield "Time", f"{_instant(str(began))}" + (f" to {_instant(str(ended))}" if ended else "")
    yield "State", str(run.get("state"))
    git = ((run.get("attempts") or [{}])[0] or {}).get("suite_git") or {}
    if git.get("commit"):
        changed = ", with changes that were not committed" if git.get("dirty") else ""
        yield "Commit of the suite", f"{git['commit']}{changed}"
    yield "Suite's SHA-256", str(run.get("suite_sha256"))
    yield "Seed of the order", f"{run.get('schedule_seed')} (each block of repeats is shuffled)"
    yield "Version of harness", str(run.get("harness_version"))
    yield "Dataset", "is found by its name; HARNESS_DATA_DIR is a folder with local copies"


def _instant(text: str) -> str:
    try:
        return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    except ValueError:
        return text
