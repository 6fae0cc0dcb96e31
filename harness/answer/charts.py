"""The frames of a report → its charts: what can be chosen above each, and the rows that they are drawn from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from harness.answer.specs import along, filtered, renamed, units
from harness.answer.tables import Tables
from harness.domain.metrics import METRICS
from harness.report import figures  # only drawing a report loads this file
from harness.report.content import Control, Figure
from harness.report.figures.basis import rows_apart

if TYPE_CHECKING:
    import pandas as pd

_EVERY: Final = 1_000_000  # groups: the page draws as many of them as it can show
_CONTAINER: Final = "container"
_ENERGY: Final = ("gpu_j", "cpu_j")


class Sheet:
    """The charts of one page, and their rows: each data set once, whatever charts it is drawn in."""

    def __init__(self, tables: Tables) -> None:
        self.datasets: dict[str, pd.DataFrame] = {}
        self._tables = tables

    @property
    def _level(self) -> str:
        return f"Intervals are of {100 * self._tables.confidence:g}\N{NO-BREAK SPACE}%."

    @property
    def _told(self) -> str:
        """What `effects` and `levels` are about, for people."""
        tables = self._tables
        return f"the time to {tables.goal_text}" if tables.figure == "time_to_target" else f"the last {tables.figure}"

    def figures(self) -> Iterator[Figure]:
        """Yield the charts for which there is something to draw, in the order of the page."""
        yield from _or_why("accuracy", "Time against accuracy", self._accuracy)
        yield from _or_why("curves", "Learning curves", self._curves)
        yield from _or_why("grid", "The grid", self._grid)
        yield from _or_why("times", "Time to the target", self._times)
        yield from _or_why("effects", "Which axis matters", self._effects)
        yield from _or_why("hardware", "Hardware side by side", self._hardware)
        yield from _or_why("scaling", "Speed-up", self._scaling)
        yield from _or_why("profiles", "Over all problems", self._profiles)

    def telemetry(self) -> Iterator[Figure]:
        """Yield the hardware's readings along the time of some trials."""
        yield from _or_why("telemetry", "Hardware along a trial", self._telemetry)

    def _telemetry(self) -> Iterator[Figure]:
        readings, marks = self._tables.readings, self._tables.marks
        if readings.empty:
            return
        spec = self._spec(figures.telemetry, readings, marks, width=_CONTAINER)
        for unit in units(spec):  # one trial is shown at a time, and the choice above says which
            if "color" in unit.get("encoding", {}):
                unit["encoding"]["color"]["legend"] = None
        names = dict(zip(readings["key"].tolist(), readings["trial"].tolist(), strict=True))  # of each setting one
        yield Figure(
            id="telemetry",
            title="Hardware along a trial",
            text="Readings of the node while one trial of each of the first settings ran: shaded the trial itself.",
            specs={"": spec},
            controls=(Control(name="trial", title="Trial", choices=tuple(names.items()), field="key"),),
            by_setting=False,
        )

    def strip(self, frame: pd.DataFrame) -> dict[str, Any]:
        """Return the chart of nodes against one another."""
        return self._spec(figures.nodes, frame, width=_CONTAINER)

    def _spec(self, draw: Callable[..., Any], *frames: Any, **options: Any) -> dict[str, Any]:
        """Return the specification of what a function of `report.figures` draws; its rows are kept apart."""
        import pandas as pd
        from altair.utils.schemapi import debug_mode

        with rows_apart() as rows, debug_mode(False):  # a schema that is checked costs more than all else
            spec = figures.spec(draw(*frames, **options), check=False)
        names = {name: f"{len(self.datasets) + place}" for place, name in enumerate(rows)}
        self.datasets |= {names[name]: pd.DataFrame(table) for name, table in rows.items()}
        found: dict[str, Any] = renamed(spec, names)
        return found

    def _accuracy(self) -> Iterator[Figure]:
        tables = self._tables
        # The front is of all settings, and stays when only some are shown: its rows belong to no setting of the page.
        front = tables.front.assign(key="")
        every = self._spec(
            figures.time_accuracy, tables.curves, tables.settings, metric=tables.metric, target=tables.goal,
            front=front, most=_EVERY, width=_CONTAINER,
        )  # fmt: skip
        shown = {"epochs": "every epoch"}
        specs = along("x", every, tables.curves.loc[tables.curves["epoch"] > 0, "time_s"], before="epochs ")
        costs = {
            "median_total_train_s": "each setting's best",
            "gpu_j": "best against GPU energy",
            "cpu_j": "best against CPU energy",
        }
        for cost, title in costs.items():
            if not tables.settings[cost].notna().any():
                continue
            shown[cost] = title
            chart = self._spec(
                figures.front, tables.settings, metric=tables.metric, energy=None if cost not in _ENERGY else cost,
                most=_EVERY, width=_CONTAINER,
            )  # fmt: skip
            specs |= along("x", chart, tables.settings[cost], before=f"{cost} ")
        yield Figure(
            id="accuracy",
            title="Time against accuracy" if tables.metric.endswith("accuracy") else f"Time against {tables.metric}",
            text=(
                "What each setting reaches, and when. The dotted line is the front of all settings: nothing is both "
                "quicker and better than what lies on it."
            ),
            specs=specs,
            controls=(_control("of", "Show", shown), _scales()),
        )

    def _curves(self) -> Iterator[Figure]:
        tables = self._tables
        overs: dict[Any, str] = {"epoch": "epochs", "time": "training time", "samples": "samples"}
        columns = {"epoch": "epoch", "time": "time_s", "samples": "samples"}
        trained = tables.curves["epoch"] > 0
        known = {"trained": "the first epoch", "untrained": "the untrained model"}
        if trained.all():
            del known["untrained"]
        specs: dict[str, dict[str, Any]] = {}
        for over in overs:
            every = self._spec(
                figures.learning_curves, tables.curves, metric=tables.metric, over=over, target=tables.goal,
                untrained=True, most=_EVERY, width=_CONTAINER,
            )  # fmt: skip
            for since in known:
                kept = tables.curves[trained] if since == "trained" else tables.curves
                chart = filtered(every, "datum.epoch !== 0") if since == "trained" else every
                if since == "trained" and over == "epoch":
                    for unit in units(chart):  # its ticks are told one by one
                        axis = unit["encoding"].get("x", {}).get("axis") or {}
                        if "values" in axis:
                            axis["values"] = [one for one in axis["values"] if one != 0]
                across = along("x", chart, kept[columns[over]], before=f"{over} {since} ", wide=over != "epoch")
                for name, drawn in across.items():
                    specs |= along("y", drawn, kept["value"], before=f"{name} ")
        controls = [_control("over", "Over", overs), _control("since", "From", known), _scales()]
        if METRICS.get(tables.metric) is None or METRICS[tables.metric].high is None:
            controls.append(_scales("values", "Vertical axis"))
        else:
            specs = {name.removesuffix(" auto"): spec for name, spec in specs.items() if name.endswith(" auto")}
        yield Figure(
            id="curves",
            title="Learning curves",
            text=f"{tables.metric} of the held-out data as training goes on: the median of the repeats."
            if tables.metric.startswith("val_")
            else f"{tables.metric} as training goes on: the median of the repeats.",
            specs=specs,
            controls=tuple(controls),
        )

    def _grid(self) -> Iterator[Figure]:
        import numpy as np

        from harness.analyse.frames import floats

        tables = self._tables
        offered = tables.of_settings.items()
        known = {name: title for name, title in offered if np.isfinite(floats(tables.settings, name)).any()}
        if not tables.varied or not known:
            return
        pairs = tables.pairs
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
            text="A figure of each setting over the axes. A click on a cell chooses its setting.",
            specs=specs,
            controls=(
                _control("figure", "Figure", known),
                _control("axes", "Axes", {str(place): " × ".join(pair) for place, pair in enumerate(pairs)}),
            ),
            most=_EVERY,
        )

    def _times(self) -> Iterator[Figure]:
        tables = self._tables
        if tables.reach is None or tables.reach.empty:
            return
        chart = self._spec(
            figures.time_to_accuracy, tables.reach, tables.settings, target=tables.goal_text, most=_EVERY,
            width=_CONTAINER,
        )  # fmt: skip
        yield Figure(
            id="times",
            title="Time to accuracy" if tables.metric.endswith("accuracy") else "Time to the target",
            text=f"When each repeat reached {tables.goal_text}, on the training clock. {self._level}",
            specs=along("x", chart, tables.reach["time_to_target_s"]),
            controls=(_scales(),),
        )

    def _effects(self) -> Iterator[Figure]:
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
                text=f"How much of the differences between trials in {self._told} goes with each axis, and in which "
                f"direction. {self._level}",
                notes=()
                if not tables.missed
                else (
                    f"It is about {tables.metric} and not about the time to the target, since only {tables.missed}.",
                ),
                specs={name: chart for name, (_, chart) in charts.items()},
                controls=(_control("of", "Show", {name: title for name, (title, _) in charts.items()}),),
                by_setting=False,
            )

    def _hardware(self) -> Iterator[Figure]:
        tables = self._tables
        if tables.hardware.empty or tables.hardware["hardware"].nunique() < 2:
            return
        chart = self._spec(figures.hardware, tables.hardware, most=_EVERY, width=_CONTAINER)
        yield Figure(
            id="hardware",
            title="Hardware side by side",
            text=f"Seconds an epoch of each setting on each kind of hardware. {self._level}",
            specs={"": chart},
        )

    def _scaling(self) -> Iterator[Figure]:
        tables = self._tables
        frames = {"on one node": tables.scaling, "over nodes": tables.nodes}
        charts = {
            name: self._spec(figures.scaling, frame, most=_EVERY, width=_CONTAINER)
            for name, frame in frames.items()
            if frame is not None and not frame.empty
        }
        if charts:
            yield Figure(
                id="scaling",
                title="Speed-up",
                text="How throughput grows with the processors or nodes that work on it, beside the ideal. "
                f"{self._level}",
                specs=charts,
                controls=(_control("of", "Show", {name: name for name in charts}),),
                by_setting=False,
            )

    def _profiles(self) -> Iterator[Figure]:
        profiles = self._tables.profiles
        if not profiles:
            return
        yield Figure(
            id="profiles",
            title="Over all problems",
            text=(
                "On what share of the problems each is within a factor of the quickest: at 1, how often it is the "
                "quickest itself; far right, how often it gets there at all."
            ),
            specs={
                str(place): self._spec(figures.profiles, frame, width=_CONTAINER)
                for place, frame in enumerate(profiles.values())
            },
            controls=(_control("of", "Compared", {str(place): name for place, name in enumerate(profiles)}),),
            by_setting=False,
        )


def _or_why(name: str, title: str, draw: Callable[[], Iterator[Figure]]) -> list[Figure]:
    """Return the figures, or a section that says why there are none: no figure is worth the loss of the page."""
    try:
        return list(draw())
    except Exception as error:  # a mistake of this program, of whatever kind
        why = f"This could not be drawn, which is a mistake of harness: {type(error).__name__}: {error}"
        return [Figure(id=name, title=title, text=why)]


def _control(name: str, title: str, choices: Mapping[str, str]) -> Control:
    return Control(name=name, title=title, choices=tuple(choices.items()))


def _scales(name: str = "scale", title: str = "Horizontal axis") -> Control:
    return _control(name, title, {"auto": "as fits", "linear": "linear", "log": "logarithmic"})
