"""Recorded trials → the frames of a report: what its figures and tables are drawn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any, Final

from harness.answer.gather import Gathered
from harness.answer.groups import Places, brief, named, named_alone, with_shade
from harness.answer.profiles import over_settings, over_suites
from harness.answer.readings import readings_of
from harness.domain.design import CONFIDENCE

if TYPE_CHECKING:
    import pandas as pd

_MISSES: Final = 0.2  # of the completed trials; of more, what their times depend on is not told by those that are left
_FOREMOST: Final = 3  # axes whose pairs a grid can be over


@dataclass(frozen=True, kw_only=True)
class Tables:
    """The frames of a report.

    A group is a setting and an arm, and on several kinds of hardware a kind too (`by`). All frames but `effects`,
    `levels`, `nodes` and `profiles` have ``key`` (names the group; letters, digits and hyphens) and ``label`` (for
    people; no two groups have the same), and where one numeric axis orders the groups ``shade``, their place on it.
    Labels are single lines: `gathered` has the axes' texts without control characters, and long ones shortened
    (`brief`); `recorded` has them as they are. Groups go in order of rank: by the share of repeats that reached the
    target, then by the median time to it; without a target, and among equals, by the median of the best value.
    """

    gathered: Gathered
    recorded: Gathered
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
    def metric(self) -> str:
        return self.gathered.metric

    @property
    def goal(self) -> float | None:
        """The target's value."""
        target = self.gathered.target
        return None if target is None else (target.at_least if target.at_least is not None else target.at_most)

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

    recorded, gathered = gathered, replace(gathered, trials=brief(gathered.trials, gathered.axes.values()))
    trials, epochs, metric, target = gathered.trials, gathered.epochs, gathered.metric, gathered.target
    bounds = {} if target is None else {"at_least": target.at_least, "at_most": target.at_most}
    by = ("setting_id", "arm", *(["hardware"] if trials["hardware"].nunique() > 1 else []))
    higher = gathered.higher_is_better
    varied = {path: column for path, column in gathered.axes.items() if _several(trials[column])}

    settings = analyse.summarise(
        trials, epochs, metric=metric, **bounds, axes=list(gathered.axes.values()), by=by, confidence=confidence
    )
    settings = _ranked(settings, higher_is_better=higher)
    settings = named(settings, gathered, by)
    settings["name"] = analyse.label(settings, recorded.trials, gathered.naming)["label"]
    if len(varied) == 1:
        settings = with_shade(settings, next(iter(varied.values())))
    place = Places(settings, by)
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
    readings, marks = readings_of(gathered, settings, place)
    nodes = node_scaling(trials, epochs, gathered.results.nodes, runs=gathered.runs, confidence=confidence)
    return Tables(
        gathered=gathered, recorded=recorded, confidence=confidence, figure=figure, missed=missed, by=by, varied=varied,
        settings=settings, curves=curves,
        front=analyse.epoch_front(curves[curves["epoch"] > 0], higher_is_better=higher),
        reach=reach, accuracy=accuracy, hardware=hardware, effects=effects, levels=levels,
        scaling=_scaling(gathered, confidence), nodes=None if nodes.empty else nodes,
        profiles={
            **over_settings(settings, "train_s" if target is None else "time_to_target_s"),
            **over_suites(gathered, varied),
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


def _scaling(gathered: Gathered, confidence: float) -> pd.DataFrame | None:
    from harness import analyse
    from harness.analyse.scaling import RESOURCES

    for resource in reversed(RESOURCES):
        if gathered.trials[resource].nunique() > 1:
            found = analyse.scaling(gathered.trials, gathered.epochs, resource=resource, confidence=confidence)
            if not found.empty:
                return named_alone(found, gathered)
    return None
