"""Runs → figures as files: which figures there are, which of them make sense for some runs, and where they go."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from harness.answer.gather import gather
from harness.answer.tables import Tables, tables
from harness.domain.component import did_you_mean
from harness.domain.errors import ResultsError

if TYPE_CHECKING:
    import pandas as pd

    from harness.report.figures import Figure

Form = Literal["png", "svg", "pdf"]
FORMS: Final[tuple[Form, ...]] = get_args(Form)
FOLDER: Final = "figures"
_OTHER: Final = "#858585"  # of groups that no figure draws, unless those before them have nothing to be drawn


@dataclass(frozen=True, kw_only=True)
class Size:
    """Pixels of a figure's plot; None leaves it to the figure."""

    width: int | None = None
    height: int | None = None

    def __call__(self) -> dict[str, Any]:
        return {name: value for name, value in (("width", self.width), ("height", self.height)) if value is not None}


# Each returns the figure, or why there is none. ----------------------------------------------------------------------


def _time_accuracy(found: Tables, size: Size) -> Figure | str:
    from harness.report import figures

    if found.curves.empty:
        return f"no {found.metric} was measured"
    return figures.time_accuracy(
        found.curves, found.settings, metric=found.metric, target=found.goal, front=found.front, **size()
    )


def _front(found: Tables, size: Size) -> Figure | str:
    from harness.report import figures

    if not found.settings["front"].any():
        return "no trial completed, so that there is nothing to weigh"
    return figures.front(found.settings, metric=found.metric, **size())


def _energy(found: Tables, size: Size) -> Figure | str:
    from harness.report import figures

    for kind in ("gpu", "cpu"):
        if found.settings[f"front_{kind}"].any():
            return figures.front(found.settings, metric=found.metric, energy=f"{kind}_j", **size())
    return "no valid energy was measured"


def _learning_curves(found: Tables, size: Size) -> Figure | str:
    from harness.report import figures

    if found.curves.empty:
        return f"no {found.metric} was measured"
    return figures.learning_curves(found.curves, metric=found.metric, over="epoch", target=found.goal, **size())


def _time_to_accuracy(found: Tables, size: Size) -> Figure | str:
    from harness.report import figures

    if found.reach is None:
        return "the runs have no target; give one: --target 0.9"
    if found.reach["time_to_target_s"].isna().all():
        return f"no {found.metric} was measured"
    return figures.time_to_accuracy(found.reach, found.settings, target=found.goal_text, **size())


def _heat_map(found: Tables, size: Size) -> Figure | str:
    from harness.report import figures

    if not found.varied:
        return "no axis has several values"
    figure = "median_best" if found.goal is None else "median_time_to_target_s"
    if found.settings[figure].isna().all():
        return f"no {found.metric} was measured"
    *down, across = (found.varied[path] for path in found.pairs[0])
    titles = found.of_settings
    return figures.heat_map(
        found.settings, x=across, y=down[0] if down else None, figure=figure, title=titles[figure], **size()
    )


def _hardware(found: Tables, size: Size) -> Figure | str:
    from harness.report import figures

    if found.hardware["median_s"].isna().all():
        return "no epoch was measured"
    return figures.hardware(found.hardware, **size())


def _effects(found: Tables, size: Size) -> Figure | str:
    from harness.report import figures

    if found.effects is None or found.effects["share"].isna().all():
        return "no axis has several values, or there are too few trials to tell"
    return figures.effects(found.effects, figure=_told(found), **size())


def _levels(found: Tables, size: Size) -> Figure | str:
    from harness.report import figures

    if found.levels is None or found.levels.empty:
        return "no axis has several values"
    return figures.levels(found.levels, figure=_told(found), **size())


def _told(found: Tables) -> str:
    return f"time to {found.goal_text}" if found.figure == "time_to_target" else found.figure


def _scaling(found: Tables, size: Size) -> Figure | str:
    from harness.report import figures

    frame = found.scaling if found.scaling is not None else found.nodes
    return (
        "nothing ran on several numbers of CPUs, GPUs or nodes" if frame is None else figures.scaling(frame, **size())
    )


def _profiles(found: Tables, size: Size) -> Figure | str:
    from harness.report import figures

    if not found.profiles:
        return "it takes several settings or suites, each with the same several kinds of hardware, arms or values"
    return figures.profiles(next(iter(found.profiles.values())), **size())


def _telemetry(found: Tables, size: Size) -> Figure | str:
    from harness.report import figures

    if found.readings.empty:
        return "nothing was read while the trials ran"
    given = size()
    if size.height is not None:
        given["height"] = max(40, size.height // found.readings["metric"].nunique())
    return figures.telemetry(found.readings, found.marks, **given)


FIGURES: Final[Mapping[str, Callable[[Tables, Size], Figure | str]]] = {
    "time-accuracy": _time_accuracy,
    "front": _front,
    "energy": _energy,
    "learning-curves": _learning_curves,
    "time-to-accuracy": _time_to_accuracy,
    "heat-map": _heat_map,
    "hardware": _hardware,
    "effects": _effects,
    "levels": _levels,
    "scaling": _scaling,
    "profiles": _profiles,
    "telemetry": _telemetry,
}


def draw(found: Tables, names: Sequence[str] = (), *, size: Size | None = None) -> dict[str, Figure]:
    """Return figures by name; without names all those that make sense for these tables.

    Raises:
        ResultsError: for a name that is none, or a figure that does not make sense, with the reason.
    """
    check(names)
    drawn: dict[str, Figure] = {}
    for name in names or FIGURES:
        figure = FIGURES[name](found, size or Size())
        if not isinstance(figure, str):
            drawn[name] = figure
        elif names:
            raise ResultsError(f"--figure {name}: {figure}")
    if not drawn:
        raise ResultsError("there is nothing to draw: these trials measured nothing")
    return drawn


def _coloured(found: Tables) -> Tables:
    """Return the tables with a colour for each group, so that it has the same one in all figures."""
    from harness.report.figures.basis import MOST
    from harness.report.figures.groups import colours

    # Figures draw the first groups; a scale over all of them would give these next to the same colour.
    colour = colours(found.settings.head(MOST)).set_index("key")["colour"]

    def given(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(colour=frame["key"].map(colour).fillna(_OTHER))

    return replace(
        found, settings=given(found.settings), curves=given(found.curves), hardware=given(found.hardware),
        reach=None if found.reach is None else given(found.reach), readings=given(found.readings),
    )  # fmt: skip


def check(names: Sequence[str]) -> None:
    """Raise a ResultsError for a name that is no figure's."""
    for name in names:
        if name not in FIGURES:
            hint = did_you_mean(name, FIGURES)
            raise ResultsError(
                f"--figure {name!r}: there is no such figure;{hint} the figures are {', '.join(FIGURES)}"
            )


def plot(
    runs: Sequence[str],
    *,
    figures: Sequence[str] = (),
    output: Path | None = None,
    form: str | None = None,
    size: Size | None = None,
    scale: float = 2.0,
    dark: bool = False,
    results: Path = Path("results"),
    where: Sequence[str] = (),
    discard: Sequence[str] = (),
    target: str | float | None = None,
) -> list[Path]:
    """Draw figures of the runs that the user named (see `gather`), and return the files that they are in.

    `output` is a file where it ends as one (.png, .svg, .pdf) and one figure is named, else a folder, which is made. If
    left out, it is the folder "figures": in the run's folder, or of several runs in the current one. Older files are
    replaced.

    Raises:
        ResultsError: for a figure or a format that is none, when there is nothing to draw, or for a place that cannot
            be written to.
        SuiteError: for an expression, a warning or a target that is none.
    """
    from harness.report.figures import render

    check(figures)
    file, kind = _place(output, form, figures)
    gathered = gather(runs, results=results, where=where, discard=discard, target=target)
    folders = gathered.results.folders
    folder = output if output is not None else folders[0] / FOLDER if len(folders) == 1 else Path(FOLDER)
    if file is None:
        _make(folder)
    written = []
    for name, figure in draw(_coloured(tables(gathered)), figures, size=size).items():
        path = file if file is not None else folder / f"{name}.{kind}"
        _write(path, render(figure, kind, dark=dark, scale=scale))
        written.append(path)
    return written


def _place(output: Path | None, form: str | None, figures: Sequence[str]) -> tuple[Path | None, Form]:
    """Return the file that one figure goes to, None for a folder, and the format."""
    forms: dict[str, Form] = {name: name for name in FORMS}
    if form is not None and form not in forms:
        raise ResultsError(f"--format {form!r}: there is no such format; the formats are {', '.join(FORMS)}")
    kind = forms.get(form or "", "png")
    suffix = "" if output is None else output.suffix[1:].lower()
    if output is None or not suffix or output.is_dir():
        return None, kind
    if suffix not in forms:
        if form is not None:
            return None, kind
        known = ", ".join(f".{name}" for name in FORMS)
        raise ResultsError(
            f"--output {output}: figures are written as {known}, not as .{suffix}; for a folder, add --format"
        )
    if form is not None and form != suffix:
        raise ResultsError(f"--output {output} and --format {form} contradict each other; leave --format away")
    if len(figures) != 1:
        told = f"{len(figures)} figures" if figures else "all figures"
        raise ResultsError(f"--output {output}: one file does not hold {told}; name a folder, or one --figure")
    if not output.parent.is_dir():
        raise ResultsError(
            f"{output}: there is no folder {output.parent}; make it, or name another place with --output"
        )
    return output, forms[suffix]


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResultsError(f"{folder}: cannot be made ({error.strerror}); name another place with --output") from error


def _write(path: Path, content: bytes) -> None:
    aside = path.with_name(f".{path.name}.tmp")
    try:
        aside.write_bytes(content)
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise ResultsError(f"{path}: cannot be written ({error.strerror}); name another place with --output") from error
