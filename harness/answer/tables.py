"""Recorded trials → the frames of a report: what its figures and tables are drawn from."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any, Final

from harness.answer.gather import Gathered

if TYPE_CHECKING:
    import pandas as pd

_NAMES: Final = ("key", "label", "shade")
_LONG: Final = 60  # characters of an axis's value; the middle of a longer one is left out of labels
CONFIDENCE: Final = 0.98  # of all intervals: that of `conclude` and `compare`, so that one page has one level
_MISSES: Final = 0.2  # of the completed trials; of more, what their times depend on is not told by those that are left
_FOREMOST: Final = 3  # axes whose pairs a grid can be over
READ: Final = 12  # trials whose readings are shown: of each of the first settings one


@dataclass(frozen=True, kw_only=True)
class Tables:
    """The frames of a report.

    A group is a setting and an arm, and on several kinds of hardware a kind too (`by`). All frames but `effects`,
    `levels`, `nodes` and `profiles` have ``key`` (names the group; letters, digits and hyphens) and ``label`` (for
    people; no two groups have the same), and where one numeric axis orders the groups ``shade``, their place on it.
    Labels are single lines: `gathered` has the axes' texts without control characters, and long ones shortened
    (`_brief`); `recorded` has them as they are. Groups go in order of rank: by the share of repeats that reached the
    target, then by the median time to it; without a target, and among equals, by the median of the best value.
    """

    gathered: Gathered
    recorded: Gathered
    metric: str
    higher_is_better: bool
    goal: float | None  # the target's value
    confidence: float  # of all intervals
    figure: str  # what `effects` and `levels` are about: time_to_target, or the metric at its last epoch where there is
    # no target or more than a fifth of the trials missed it (`missed`)
    missed: str  # why it is not time_to_target although there is a target; else empty
    by: tuple[str, ...]  # the columns that tell the groups apart
    varied: Mapping[str, str]  # axes with several values: path -> the column that holds them
    settings: pd.DataFrame  # a row a group: `summarise`; rank (from 1); name: the label with nothing left out;
    # gpu_j, cpu_j of training; and front, front_gpu, front_cpu: whether nothing else has a better median_best for less
    curves: pd.DataFrame  # a row a group and epoch: `curves`
    front: pd.DataFrame  # a row a point of the front of time and metric over all epochs: `epoch_front`
    reach: pd.DataFrame | None  # a row a trial: `time_to_target`, with seed; None without a target
    accuracy: pd.DataFrame | None  # a row a group: `time_to_accuracy`; None without a target
    hardware: pd.DataFrame  # a row a group and kind of hardware: `epoch_seconds`
    effects: pd.DataFrame | None  # a row a term: `effects`; None unless an axis is varied
    levels: pd.DataFrame | None  # a row a level of an axis: `levels`; None unless an axis is varied
    scaling: pd.DataFrame | None  # `scaling` by GPUs, or else by CPUs; None where settings ran on one count alone
    nodes: pd.DataFrame | None  # `node_scaling`; None where the same work ran on one number of nodes alone
    profiles: Mapping[str, pd.DataFrame]  # `performance_profile` by what is compared: "hardware" or "arm" over the
    # settings; an axis, "hardware" or "arm" over several suites
    readings: pd.DataFrame  # of up to 12 trials: `trial_readings`, and trial: which it is, for people; length_s
    marks: pd.DataFrame  # the epochs of the same trials: `trial_epochs`, and trial

    @property
    def goal_text(self) -> str:
        """The target for people, as "val_accuracy ≥ 0.9"; empty without one."""
        target = self.gathered.target
        return "" if target is None else str(target)

    @property
    def of_settings(self) -> dict[str, str]:
        """The figures of a setting that a grid can show, by their columns of `settings`: what people call them."""
        return {
            "median_time_to_target_s": f"time to {self.goal_text} (s)",
            "median_best": f"best {self.metric}",
            "median_train_s": "seconds an epoch",
            "median_samples_per_s": "samples a second",
            "median_total_train_s": "seconds of training",
            "gpu_j": "energy of the GPUs (J)",
            "cpu_j": "energy of the CPUs (J)",
        }

    @property
    def pairs(self) -> list[tuple[str, ...]]:
        """The pairs of axes that a grid can be over, the weightiest first: of the three that matter most.

        Each is in the order of the grid; a single axis is alone.
        """
        paths = list(self.varied)
        terms = [] if self.effects is None else self.effects["term"].tolist()  # the largest first
        weighty = sorted(paths, key=lambda path: terms.index(path) if path in terms else len(terms))[:_FOREMOST]
        return [tuple(sorted(pair, key=paths.index)) for pair in combinations(weighty, 2)] or [
            (path,) for path in paths
        ]


def tables(gathered: Gathered, *, confidence: float = CONFIDENCE) -> Tables:
    """Return the frames of a report on what was gathered; `confidence` is that of all intervals."""
    from harness import analyse
    from harness.analyse.scaling import node_scaling

    recorded, gathered = gathered, replace(gathered, trials=_brief(gathered.trials, gathered.axes.values()))
    trials, epochs, metric, target = gathered.trials, gathered.epochs, gathered.metric, gathered.target
    bounds = {} if target is None else {"at_least": target.at_least, "at_most": target.at_most}
    by = ("setting_id", "arm", *(["hardware"] if trials["hardware"].nunique() > 1 else []))
    higher = gathered.higher_is_better
    varied = {path: column for path, column in gathered.axes.items() if _several(trials[column])}

    settings = analyse.summarise(
        trials, epochs, metric=metric, **bounds, axes=list(gathered.axes.values()), by=by, confidence=confidence
    )
    settings = _ranked(settings, higher_is_better=higher)
    settings = _named(settings, gathered, by)
    settings["name"] = analyse.label(settings, recorded.trials, gathered.naming)["label"]
    if len(varied) == 1:
        settings = _with_shade(settings, next(iter(varied.values())))
    place = _Places(settings, by)
    curves = place.give(analyse.curves(trials, epochs, metric=metric, by=by))
    settings = _with_fronts(settings, curves, higher_is_better=higher)

    reach = accuracy = None
    if target is not None:
        found = analyse.time_to_target(trials, epochs, metric=metric, **bounds)
        extra = [name for name in (*by, "seed") if name not in found.columns]
        reach = place.give(found.assign(**{name: trials[name].to_numpy() for name in extra}))
        accuracy = place.give(
            analyse.time_to_accuracy(trials, epochs, metric=metric, **bounds, by=by, confidence=confidence)
        )
    hardware = place.give(analyse.epoch_seconds(trials, epochs, by=by, confidence=confidence))
    missed = "" if reach is None else _missed(reach)
    figure = "time_to_target" if target is not None and not missed else metric
    effects = levels = None
    if varied:
        told: dict[str, Any] = {
            "figure": figure, "axes": varied, "confidence": confidence,
            "target": None if target is None else target.model_dump(),
        }  # fmt: skip
        effects, levels = analyse.effects(trials, epochs, **told), analyse.levels(trials, epochs, **told)
    readings, marks = _readings(gathered, settings, place, by)
    nodes = node_scaling(trials, epochs, gathered.results.nodes, runs=gathered.runs, confidence=confidence)
    return Tables(
        gathered=gathered, recorded=recorded, metric=metric, higher_is_better=higher, confidence=confidence,
        figure=figure, missed=missed, by=by, varied=varied,
        goal=None if target is None else (target.at_least if target.at_least is not None else target.at_most),
        settings=settings, curves=curves,
        front=analyse.epoch_front(curves[curves["epoch"] > 0], higher_is_better=higher),
        reach=reach, accuracy=accuracy, hardware=hardware, effects=effects, levels=levels,
        scaling=_scaling(gathered, confidence), nodes=None if nodes.empty else nodes,
        profiles={
            **_profiles(settings, "train_s" if target is None else "time_to_target_s"), **_over_suites(gathered, varied)
        },
        readings=readings, marks=marks,
    )  # fmt: skip


def _missed(reach: pd.DataFrame) -> str:
    """Return how many trials reached the target, if they are too few to tell by them what their times depend on."""
    import numpy as np

    from harness.analyse.frames import floats

    times = floats(reach, "time_to_target_s")
    reached, of = int(np.isfinite(times).sum()), int((~np.isnan(times)).sum())
    return f"{reached:,} of {of:,} trials reached the target" if of - reached > _MISSES * of else ""


def _several(column: pd.Series) -> bool:
    return column.nunique(dropna=False) > 1


def _brief(trials: pd.DataFrame, columns: Iterable[str]) -> pd.DataFrame:
    """Return the trials with texts of axes that stand in a line of a chart: those of a column stay different ones."""
    changed = {}
    for column in columns:
        texts = [one for one in trials[column].drop_duplicates().tolist() if isinstance(one, str)]
        brief = {one: _line(one) for one in texts}
        taken = {one for one in texts if brief[one] == one}
        for one in texts:
            told, number = brief[one], 1
            while told != one and told in taken:
                number += 1
                told = f"{brief[one]} ({number})"
            taken.add(told)
            brief[one] = told
        if any(told != one for one, told in brief.items()):
            changed[column] = [brief.get(one, one) if isinstance(one, str) else one for one in trials[column].tolist()]
    return trials.assign(**changed)


def _line(text: str) -> str:
    told = " ".join("".join(one if one.isprintable() else " " for one in text).split())
    return told if len(told) <= _LONG else f"{told[: _LONG * 2 // 3]}…{told[-_LONG // 3 :]}"


def _ranked(settings: pd.DataFrame, *, higher_is_better: bool) -> pd.DataFrame:
    import numpy as np

    from harness.analyse.frames import floats

    with np.errstate(invalid="ignore", divide="ignore"):
        share = floats(settings, "reached") / floats(settings, "reached_of")
    best = floats(settings, "median_best")
    last = np.where(np.isnan(best), -np.inf, best if higher_is_better else -best)
    time_s = np.nan_to_num(floats(settings, "median_time_to_target_s"), nan=np.inf, posinf=np.inf)
    order = np.lexsort((-last, time_s, -np.nan_to_num(share, nan=-1.0)))
    return settings.iloc[order].reset_index(drop=True).assign(rank=range(1, len(settings) + 1))


def _named(settings: pd.DataFrame, gathered: Gathered, by: Sequence[str]) -> pd.DataFrame:
    from harness import analyse

    found: pd.DataFrame = analyse.label(settings, gathered.trials, gathered.naming)
    suites = {str(run.get("suite")) for run in gathered.runs}
    if not gathered.naming and len(found) == len(suites) == 1:
        found["label"] = list(suites)
    others = [name for name in by if name != "setting_id"]
    plain = not found["setting_id"].duplicated().any()
    keys = [
        str(row["setting_id"]) if plain else f"{row['setting_id']}-{_short([row[name] for name in others])}"
        for row in found[list(by)].to_dict("records")
    ]
    found.insert(0, "key", [re.sub(r"[^A-Za-z0-9-]", "-", key) for key in keys])
    return found


def _short(values: Sequence[Any]) -> str:
    return hashlib.sha256("\0".join(map(str, values)).encode()).hexdigest()[:6]


class _Places:
    """The groups' keys and labels, for other frames, and their shades, if they have any."""

    def __init__(self, settings: pd.DataFrame, by: Sequence[str]) -> None:
        self._by = list(by)
        identities = settings[self._by].astype(object).itertuples(index=False, name=None)
        self._number = {identity: number for number, identity in enumerate(identities)}
        self._names = {
            name: settings[name].to_numpy() for name in ("key", "label", "shade") if name in settings.columns
        }

    def give(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the frame with these first, its groups in order of rank and as they are in each."""
        import numpy as np

        identities = frame[self._by].astype(object).itertuples(index=False, name=None)
        number = np.fromiter((self._number[identity] for identity in identities), dtype=np.int64, count=len(frame))
        order = np.argsort(number, kind="stable")
        found = frame.iloc[order].reset_index(drop=True).drop(columns=list(self._names), errors="ignore")
        for column, (name, values) in enumerate(self._names.items()):
            found.insert(column, name, values[number[order]])
        return found


def _with_fronts(settings: pd.DataFrame, curves: pd.DataFrame, *, higher_is_better: bool) -> pd.DataFrame:
    from harness import analyse

    last = curves.groupby("key", sort=False)[["gpu_j", "cpu_j"]].last()
    settings = settings.assign(gpu_j=settings["key"].map(last["gpu_j"]), cpu_j=settings["key"].map(last["cpu_j"]))
    costs = {"front": "median_total_train_s", "front_gpu": "gpu_j", "front_cpu": "cpu_j"}
    return settings.assign(
        **{
            name: analyse.front(settings, cost=cost, value="median_best", higher_is_better=higher_is_better)
            for name, cost in costs.items()
        }
    )


def _with_shade(settings: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the settings with ``shade``: the place of their value on the only axis, if that is one of numbers."""
    import pandas as pd

    numbers = settings[column]
    if not pd.api.types.is_numeric_dtype(numbers) or pd.api.types.is_bool_dtype(numbers) or numbers.isna().any():
        return settings
    return settings.assign(shade=numbers.rank(method="dense").astype("int64"))


def _scaling(gathered: Gathered, confidence: float) -> pd.DataFrame | None:
    from harness import analyse
    from harness.analyse.scaling import RESOURCES

    for resource in reversed(RESOURCES):
        if gathered.trials[resource].nunique() > 1:
            found = analyse.scaling(gathered.trials, gathered.epochs, resource=resource, confidence=confidence)
            if not found.empty:
                return _named_alone(found, gathered)
    return None


def _named_alone(frame: pd.DataFrame, gathered: Gathered) -> pd.DataFrame:
    """Return a frame whose groups are others than those of the settings with key and label of its own."""
    from harness import analyse

    found: pd.DataFrame = analyse.label(frame, gathered.trials, gathered.naming)
    models = [name for name in ("cpu_model", "gpu_model") if name in frame.columns and frame[name].nunique() > 1]
    for name in models:
        found["label"] += " " + found[name].astype(str)
    identity = [name for name in ("arm", *models) if name in found.columns]
    ends = [_short(row) for row in found[identity].astype(str).itertuples(index=False, name=None)]
    found.insert(0, "key", found["setting_id"].astype(str) + "-" + ends)
    return found


def _profiles(settings: pd.DataFrame, cost: str) -> dict[str, pd.DataFrame]:
    """Return on what share of the settings each kind of hardware, or each arm, is how near to the quickest."""
    from harness import analyse
    from harness.domain.errors import HarnessError

    solver = "hardware" if "hardware" in settings.columns else "arm"
    problem = [name for name in ("setting_id", "arm") if name != solver]
    column = f"median_{cost}"
    costs = settings[settings[column].notna() & (settings[column] != 0)]
    costs = costs.assign(problem=costs[problem].astype(str).agg(" ".join, axis=1))
    if costs[solver].nunique() < 2 or costs["problem"].nunique() < 2:
        return {}
    try:
        found = analyse.performance_profile(costs, problem="problem", solver=solver, cost=column)
    except HarnessError:  # no setting ran on all kinds
        return {}
    return {f"{solver}, over the settings": found}


def _over_suites(gathered: Gathered, varied: Mapping[str, str]) -> dict[str, pd.DataFrame]:
    """Return on what share of the suites each value of an axis, each arm or each kind of hardware is how near to the
    quickest to the suite's target; nothing unless several suites have several of them."""
    from harness import analyse
    from harness.domain.errors import HarnessError

    found: dict[str, pd.DataFrame] = {}
    if gathered.trials["suite"].nunique() < 2:
        return found
    for name, column in {**varied, "hardware": "hardware", "arm": "arm"}.items():
        if gathered.trials[column].nunique() < 2:
            continue
        try:
            costs = analyse.solver_costs(gathered.trials, gathered.epochs, gathered.runs, solver=column)
            if costs["solver"].nunique() > 1 and costs["problem"].nunique() > 1:
                found[f"{name}, over the suites"] = analyse.performance_profile(
                    costs, problem="problem", solver="solver", cost="cost_s"
                )
        except HarnessError:  # no targets, or no suite has all values
            continue
    return found


def _readings(
    gathered: Gathered, settings: pd.DataFrame, place: _Places, by: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the readings and the epochs of one trial of each of the first settings."""
    import pandas as pd

    from harness.analyse.readings import trial_epochs, trial_readings
    from harness.record.reading import load

    trials = gathered.trials[gathered.trials["started_at"].notna() & gathered.trials["ended_at"].notna()]
    shown = place.give(trials)
    shown = shown.assign(_other=shown["status"] != "completed").sort_values("_other", kind="stable")
    shown = shown.drop_duplicates("key")
    shown = shown[shown["key"].isin(settings["key"].head(READ))]
    shown = place.give(shown.drop(columns="_other"))
    wanted = set(shown["run_id"])
    folders = [
        folder
        for folder, run in zip(gathered.results.folders, gathered.runs, strict=True)
        if run.get("run_id") in wanted
    ]
    columns = ["run_id", "node", "time", "device", "metric", "value"]
    telemetry = load(folders, columns={"telemetry": columns}).telemetry if folders else pd.DataFrame(columns=columns)
    return _of_trials(trial_readings(shown, telemetry), shown), _of_trials(trial_epochs(shown, gathered.epochs), shown)


def _of_trials(frame: pd.DataFrame, shown: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with the key, the label, the name and the length of each row's trial first."""
    import pandas as pd

    from harness.analyse.readings import seconds

    key = ["run_id", "trial_id", "arm"]
    names = shown[["key", "label"]].assign(trial=shown["label"] + " seed=" + shown["seed"].astype(str))
    names["length_s"] = seconds(shown["ended_at"]) - seconds(shown["started_at"])
    names.index = pd.MultiIndex.from_frame(shown[key].astype(object))
    rows = names.reindex(pd.MultiIndex.from_frame(frame[key].astype(object))).reset_index(drop=True)
    return pd.concat([rows, frame.reset_index(drop=True)], axis=1)
