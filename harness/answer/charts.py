"""The frames of a report → its charts: what can be chosen above each, and the rows that they are drawn from."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any, Final

from harness.answer.tables import Tables

if TYPE_CHECKING:
    import pandas as pd

    from harness.report.content import Control, Figure

EVERY: Final = 1_000_000  # groups: the page draws as many of them as it can show
_CONTAINER: Final = "container"
_FOREMOST: Final = 3  # axes whose pairs the grid can be chosen to be over


class Sheet:
    """The charts of one page, and their rows: each data set once, whatever charts it is drawn in."""

    def __init__(self, tables: Tables) -> None:
        self.datasets: dict[str, pd.DataFrame] = {}
        self._tables = tables

    def figures(self) -> Iterator[Figure]:
        """Yield the charts for which there is something to draw, in the order of the page."""
        yield self._accuracy()
        yield self._curves()
        yield from self._grid()
        yield from self._times()
        yield from self._effects()
        yield from self._hardware()

    def telemetry(self) -> Iterator[Figure]:
        """Yield the hardware's readings along the time of some trials."""
        from harness.report import figures
        from harness.report.content import Control, Figure

        readings, marks = self._tables.readings, self._tables.marks
        if readings.empty:
            return
        spec = self._spec(figures.telemetry, readings, marks, width=_CONTAINER)
        for unit in _units(spec):  # one trial is shown at a time, and the choice above says which
            if "color" in unit.get("encoding", {}):
                unit["encoding"]["color"]["legend"] = None
        names = list(dict.fromkeys(readings["trial"].tolist()))
        yield Figure(
            id="telemetry",
            title="Hardware along a trial",
            text="Readings of the node while one trial of each of the first settings ran.",
            specs={"": spec},
            controls=(
                Control(name="trial", title="Trial", choices=tuple((name, name) for name in names), field="label"),
            ),
            by_setting=False,
        )

    def _spec(self, draw: Callable[..., Any], *frames: Any, **options: Any) -> dict[str, Any]:
        """Return the specification of what a function of `report.figures` draws; its rows are kept apart."""
        import pandas as pd
        from altair.utils.schemapi import debug_mode

        from harness.report import figures
        from harness.report.figures.basis import rows_apart

        with rows_apart() as rows, debug_mode(False):  # a schema that is checked costs more than all else
            spec = figures.spec(draw(*frames, **options), check=False)
        names = {name: f"{len(self.datasets) + place}" for place, name in enumerate(rows)}
        self.datasets |= {names[name]: pd.DataFrame(table) for name, table in rows.items()}
        found: dict[str, Any] = _renamed(spec, names)
        return found

    def _accuracy(self) -> Figure:
        from harness.report import figures
        from harness.report.content import Figure

        tables = self._tables
        # The front is of all settings, and stays when only some are shown: its rows belong to no setting of the page.
        front = tables.front.assign(key="")
        every = self._spec(
            figures.time_accuracy, tables.curves, tables.settings, metric=tables.metric, target=tables.goal,
            front=front, most=EVERY, width=_CONTAINER,
        )  # fmt: skip
        charts = {"epochs": ("every epoch", every)}
        costs = {"best": ("each setting's best", None), "gpu": ("best against GPU energy", "gpu_j")}
        costs["cpu"] = ("best against CPU energy", "cpu_j")
        for name, (title, energy) in costs.items():
            if energy is None or tables.settings[energy].notna().any():
                charts[name] = (
                    title,
                    self._spec(
                        figures.front,
                        tables.settings,
                        metric=tables.metric,
                        energy=energy,
                        most=EVERY,
                        width=_CONTAINER,
                    ),
                )
        specs = {
            f"{name} {scale}": spec for name, (_, chart) in charts.items() for scale, spec in _scaled(chart).items()
        }
        return Figure(
            id="accuracy",
            title="Time against accuracy" if tables.metric.endswith("accuracy") else f"Time against {tables.metric}",
            text=(
                "What each setting reaches, and when. The dotted line is the front of all settings: nothing is both "
                "quicker and better than what lies on it."
            ),
            specs=specs,
            controls=(_control("of", "Show", {name: title for name, (title, _) in charts.items()}), _scales()),
        )

    def _curves(self) -> Figure:
        from harness.report import figures
        from harness.report.content import Figure

        tables = self._tables
        overs: dict[Any, str] = {"epoch": "epochs", "time": "training time", "samples": "samples"}
        specs: dict[str, dict[str, Any]] = {}
        for over in overs:
            chart = self._spec(
                figures.learning_curves, tables.curves, metric=tables.metric, over=over, target=tables.goal,
                most=EVERY, width=_CONTAINER,
            )  # fmt: skip
            specs |= {f"{over} {scale}": spec for scale, spec in _scaled(chart).items()}
        return Figure(
            id="curves",
            title="Learning curves",
            text=f"{tables.metric} of the held-out data as training goes on: the median of the repeats."
            if tables.metric.startswith("val_")
            else f"{tables.metric} as training goes on: the median of the repeats.",
            specs=specs,
            controls=(_control("over", "Over", overs), _scales()),
        )

    def _grid(self) -> Iterator[Figure]:
        from harness.report import figures
        from harness.report.content import Figure

        tables = self._tables
        offered = {
            "median_time_to_target_s": f"time to {tables.gathered.target}",
            "median_best": f"best {tables.metric}",
            "median_train_s": "seconds an epoch",
            "median_samples_per_s": "samples a second",
            "median_total_train_s": "seconds of training",
            "gpu_j": "energy of the GPUs (J)",
            "cpu_j": "energy of the CPUs (J)",
        }
        known = {name: title for name, title in offered.items() if tables.settings[name].notna().any()}
        if not tables.varied or not known:
            return
        pairs: list[tuple[str, ...]] = list(combinations(self._foremost(), 2)) or [tuple(tables.varied)]
        specs = {}
        for place, pair in enumerate(pairs):
            columns = [tables.varied[path] for path in pair]
            for name, title in known.items():
                across, down = (columns[1], columns[0]) if len(columns) > 1 else (columns[0], None)
                specs[f"{name} {place}"] = self._spec(
                    figures.heat_map, tables.settings, x=across, y=down, figure=name, title=title
                )
        yield Figure(
            id="grid",
            title="The grid",
            text="A figure of each setting over the axes. All settings are in it, whatever the filter shows.",
            specs=specs,
            controls=(
                _control("figure", "Figure", known),
                _control("axes", "Axes", {str(place): " × ".join(pair) for place, pair in enumerate(pairs)}),
            ),
            by_setting=False,
        )

    def _foremost(self) -> list[str]:
        """Return the axes that matter most, in the order of the grid: as many as the grid's pairs are made of."""
        varied, effects = list(self._tables.varied), self._tables.effects
        if len(varied) <= _FOREMOST or effects is None or effects.empty:
            return varied[:_FOREMOST]
        terms = effects.sort_values("share", ascending=False, kind="stable")["term"].tolist()
        first = [term for term in terms if term in varied][:_FOREMOST]
        return [path for path in varied if path in first]

    def _times(self) -> Iterator[Figure]:
        from harness.report import figures
        from harness.report.content import Figure

        tables = self._tables
        if tables.reach is None or tables.reach.empty:
            return
        chart = self._spec(
            figures.time_to_accuracy, tables.reach, tables.settings, target=str(tables.gathered.target), most=EVERY,
            width=_CONTAINER,
        )  # fmt: skip
        yield Figure(
            id="times",
            title="Time to accuracy" if tables.metric.endswith("accuracy") else "Time to the target",
            text=f"When each repeat reached {tables.gathered.target}, on the training clock.",
            specs=_scaled(chart),
            controls=(_scales(),),
        )

    def _effects(self) -> Iterator[Figure]:
        from harness.report import figures
        from harness.report.content import Figure

        tables = self._tables
        charts = {}
        if tables.effects is not None and not tables.effects.empty:
            charts["share"] = "share of the variance", self._spec(figures.effects, tables.effects, width=_CONTAINER)
        if tables.levels is not None and not tables.levels.empty:
            charts["levels"] = "values of each axis", self._spec(figures.levels, tables.levels, width=_CONTAINER)
        if charts:
            yield Figure(
                id="effects",
                title="Which axis matters",
                text="How much of the differences between trials goes with each axis, and in which direction.",
                specs={name: chart for name, (_, chart) in charts.items()},
                controls=(_control("of", "Show", {name: title for name, (title, _) in charts.items()}),),
                by_setting=False,
            )

    def _hardware(self) -> Iterator[Figure]:
        from harness.report import figures
        from harness.report.content import Figure

        tables = self._tables
        if tables.hardware.empty or tables.hardware["hardware"].nunique() < 2:
            return
        chart = self._spec(figures.hardware, tables.hardware, most=EVERY, width=_CONTAINER)
        yield Figure(
            id="hardware",
            title="Hardware side by side",
            text="Seconds an epoch of each setting on each kind of hardware.",
            specs={"": chart},
        )


def _renamed(spec: Any, names: Mapping[str, str]) -> Any:
    """Return a specification with its data called by other names."""
    if isinstance(spec, list):
        return [_renamed(one, names) for one in spec]
    if not isinstance(spec, dict):
        return spec
    found = {key: _renamed(value, names) for key, value in spec.items()}
    if "name" in spec.get("data", {}):
        found["data"] = {"name": names[spec["data"]["name"]]}
    return found


def _control(name: str, title: str, choices: Mapping[str, str]) -> Control:
    from harness.report.content import Control

    return Control(name=name, title=title, choices=tuple(choices.items()))


def _scales() -> Control:
    return _control("scale", "Scale", {"auto": "as fits", "linear": "linear", "log": "logarithmic"})


def _scaled(spec: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return a specification with its horizontal axis as it is, linear, and logarithmic."""
    found = {"auto": dict(spec)}
    for scale in ("linear", "log"):
        changed = copy.deepcopy(dict(spec))
        for unit in _units(changed):
            x = unit.get("encoding", {}).get("x", {})
            if x.get("type") != "quantitative" or "field" not in x:
                continue
            x["scale"] = {**x.get("scale", {}), "type": scale}
            if scale == "log":  # 0, as the untrained model's time, has no place on it
                x["scale"].pop("zero", None)
                x["axis"] = {**x.get("axis", {}), "labelOverlap": "greedy", "format": "~g"}
                positive = {"filter": f"!isNumber(datum.{x['field']}) || datum.{x['field']} > 0"}
                unit["transform"] = [*unit.get("transform", []), positive]
        found[scale] = changed
    return found


def _units(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "mark" in spec:
        yield spec
    for kind in ("layer", "hconcat", "vconcat", "concat"):
        for inner in spec.get(kind, []):
            yield from _units(inner)
    if isinstance(spec.get("spec"), dict):
        yield from _units(spec["spec"])
