"""A suite: one declared question, and the Python file that declares it."""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import re
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from harness.domain import handy, sources
from harness.domain.beside import readable
from harness.domain.component import Declaration, plain_value
from harness.domain.duration import duration
from harness.domain.errors import HarnessError, SuiteError
from harness.domain.grid import MOST_TRIALS, Grid
from harness.domain.metrics import METRICS, goal_text
from harness.domain.reference import KINDS, AnyReference
from harness.domain.repeats import LEAST, Auto
from harness.domain.setting import Setting

# What --set and `small` may name besides the paths of a setting.
OWN_PATHS = ("repeats", "seeds", "target", "timeout", "every_node", "checkpoint")


_SIDES = {">=": "at_least", "≥": "at_least", "<=": "at_most", "≤": "at_most"}


class Target(Declaration):
    """The value that a training is to reach."""

    metric: str
    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _can_be_reached(self) -> Target:
        metric = METRICS.get(self.metric)
        if metric is None:  # one that the suite asks for, or that its function reports: which way is for it to say
            given = [value for value in (self.at_least, self.at_most) if value is not None]
            if len(given) != 1 or not math.isfinite(given[0]):
                raise SuiteError(f"a target on {self.metric} is given by one number, as at_least= or at_most=")
            return self
        right = "at_least" if metric.better == "higher" else "at_most"
        value = getattr(self, right)
        if value is None or (self.at_least is not None and self.at_most is not None):
            raise SuiteError(f"a target on {self.metric}, of which {metric.better} is better, is given by {right}=")
        low = -math.inf if metric.low is None else metric.low
        high = math.inf if metric.high is None else metric.high
        if not math.isfinite(value) or not low <= value <= high:
            hint = f"; did you mean {value / 100:g}?" if high == 1 and 2 <= value <= 100 else ""
            raise SuiteError(f"no training can reach {self.metric} {value:g}: it lies from {low:g} to {high:g}{hint}")
        return self

    @classmethod
    def of(cls, value: Any) -> Target:
        """Return the target that a suite author meant: a number stands for that much val_accuracy."""
        if isinstance(value, Target):
            return value
        if isinstance(value, Mapping):
            return cls(**value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return cls(metric="val_accuracy", at_least=value)
        if isinstance(value, str) and (match := re.fullmatch(r"(\w+) *(>=|<=|≥|≤) *([-+.\deE]+)", value.strip())):
            with suppress(ValueError):
                return cls(metric=match[1], **{_SIDES[match[2]]: float(match[3])})
        raise SuiteError(
            f'target: expected a val_accuracy such as 0.9, or reach("val_loss", at_most=0.4), got {value!r}'
        )

    def met(self, value: float | None) -> bool:
        """Return whether this value of the metric reaches the target; None and NaN do not."""
        if value is None:
            return False
        return value >= self.at_least if self.at_least is not None else value <= (self.at_most or 0.0)

    @property
    def expression(self) -> str:
        """The target as `of` reads it."""
        return (
            f"{self.metric} >= {self.at_least!r}" if self.at_least is not None else f"{self.metric} <= {self.at_most!r}"
        )

    def __str__(self) -> str:
        return goal_text(self.metric, self.at_least, self.at_most)


def reach(metric: str, *, at_least: float | None = None, at_most: float | None = None) -> Target:
    """Return the target of a metric that is to be at least, or at most, a value."""
    return Target(metric=metric, at_least=at_least, at_most=at_most)


def _optional(of: Any) -> BeforeValidator:
    return BeforeValidator(lambda value: value if value is None else of(value))


def _timeout(value: Any) -> float:
    try:
        return duration(value)
    except SuiteError as error:
        raise SuiteError(f"timeout: {error}") from None


def _checkpoint(value: Any) -> float | None:
    if value in (None, "never") or (value == 0 and not isinstance(value, bool)):
        return None
    try:
        return duration(value)
    except SuiteError as error:
        raise SuiteError(f"checkpoint: {error}; or 'never'") from None


def _small(value: Any) -> Any:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise SuiteError(f"small: expected a mapping of paths to values, such as {{'epochs': 2}}, got {value!r}")
    grids = {key: item for key, item in value.items() if isinstance(item, Grid)}
    return {key: grids.get(key) or plain_value(item, f"small, {key!r}") for key, item in value.items()}


def _references(value: Any) -> Any:
    kinds = tuple(KINDS.values())
    if isinstance(value, kinds) or not isinstance(value, list | tuple):
        raise SuiteError(f"references: expected a list, such as [reference(...)], got {value!r}")
    for item in value:
        if not isinstance(item, kinds):
            raise SuiteError(f"references: expected reference(...), direction(...) or alike(...), got {item!r}")
    return tuple(value)


def _repeats(value: Any) -> Any:
    value = Auto.of(value)
    if value is None or isinstance(value, Auto):
        return value
    if isinstance(value, bool) or not isinstance(value, int):
        raise SuiteError(f'repeats must be a whole number, "auto" or auto(...), got {value!r}')
    if value < 1 or value > MOST_TRIALS:
        raise SuiteError(f"repeats must be at {'least 1' if value < 1 else f'most {MOST_TRIALS:,}'}, got {value}")
    return value


class Suite(Declaration):
    """A declared question: a base, the grid that varies it, and how often each setting is repeated.

    A setting is run once, or `repeats` times, or once for each of `seeds`; with ``repeats="auto"``, or ``auto(...)``,
    as often as its figure needs (see `Auto`). `small` says what `--small` changes:
    paths to values as for `--set`, besides `OWN_PATHS`, and `grid`, which replaces the grid. `timeout`, of one trial,
    is seconds or a text such as "10m". With `every_node` each trial runs once on every node that can hold it, which
    are the arms. `checkpoint` is how often a long trial's state is saved: as `timeout`, or "never". It and
    `references`, published values of the settings declared here, change nothing of what is run, and so are no part of
    `sha256`.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    name: Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100)]
    base: Setting
    grid: Grid | None = None
    repeats: Annotated[int | Auto | None, BeforeValidator(_repeats)] = None
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**63, strict=True)], ...] | None = None
    target: Annotated[Target | None, _optional(Target.of)] = None
    small: Annotated[dict[str, Any] | None, BeforeValidator(_small)] = None
    timeout: Annotated[float | None, _optional(_timeout)] = None
    every_node: Annotated[bool, Field(strict=True)] = False
    checkpoint: Annotated[float | None, BeforeValidator(_checkpoint)] = 300.0
    references: Annotated[tuple[AnyReference, ...], BeforeValidator(_references)] = ()
    description: str = ""

    @model_validator(mode="after")
    def _seeds_are_distinct(self) -> Suite:
        if self.seeds is None:
            return self
        if not self.seeds:
            raise SuiteError("seeds is empty; give at least one, or say repeats=N")
        if len(set(self.seeds)) < len(self.seeds):
            raise SuiteError(f"seeds holds a seed twice: {list(self.seeds)}")
        if self.most_repeats is not None and self.most_repeats > len(self.seeds):
            asked = f"auto, {self.repeats}" if isinstance(self.repeats, Auto) else self.repeats
            enough = f"give at least {self.most_repeats} seeds{self._or_fewer_repeats(len(self.seeds))}"
            raise SuiteError(f"repeats is {asked}, but only {len(self.seeds)} seeds are given; {enough}")
        return self

    def _or_fewer_repeats(self, count: int) -> str:
        """Return the repeats, if there are such, for which so many seeds would do."""
        if not isinstance(self.repeats, Auto):
            return f", or repeats={count}"
        if count >= self.repeats.at_least:
            return f", or at_most={count}"
        return f", or at_least={count} and at_most={count}" if count >= LEAST else ""

    @model_validator(mode="after")
    def _target_is_measured(self) -> Suite:
        if self.target is not None:
            self.base.check_measured(self.target.metric, "target")
        if isinstance(self.repeats, Auto):
            self.repeats.check(self.base, with_target=self.target is not None)
        for one in self.references:
            if one.needs_target and self.target is None:
                raise SuiteError(
                    f"{type(one).__name__.lower()} {one.name!r}: metric: {one.metric!r} is the time to the suite's "
                    "target, and there is none; say target=0.9, for one"
                )
        return self

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """The seed of each repeat, of all that there may be: the first of those given, or 0, 1, 2, …"""
        return tuple(range(self.most_repeats or 1)) if self.seeds is None else self.seeds[: self.most_repeats]

    @property
    def most_repeats(self) -> int | None:
        return self.repeats.at_most if isinstance(self.repeats, Auto) else self.repeats

    def plain(self) -> dict[str, Any]:
        """Return what is asked as plain JSON: the declaration without its description, references and checkpoint."""
        small = {key: _plain(value) for key, value in (self.small or {}).items() if key != "checkpoint"}
        return {
            "name": self.name,
            "base": self.base.plain(),
            "grid": _plain(self.grid),
            "seeds": list(self.all_seeds),
            **({"repeats": self.repeats.plain()} if isinstance(self.repeats, Auto) else {}),
            "target": None if self.target is None else self.target.plain(),
            "small": small,
            "timeout": self.timeout,
            **({"every_node": True} if self.every_node else {}),
        }

    def sha256(self, changes: Any = ()) -> str:
        """Return the hash of what is asked: this declaration and the request's changes to it, as plain JSON.

        Comments, layout, the description and the references do not enter.
        """
        asked = [self.plain(), plain_value(changes, "changes")]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _plain(value: Any) -> Any:
    return value.plain() if isinstance(value, Grid) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedSuite:
    """A suite with the file that declares it: the text travels to the nodes and into the run's folder."""

    path: str
    text: str
    sha256: str  # of the text
    suite: Suite


@contextmanager
def located(path: str | None) -> Iterator[None]:
    """Put the suite's file before the message of an error raised inside."""
    try:
        yield
    except HarnessError as error:
        if path is None or str(error).startswith(path):
            raise
        raise type(error)(f"{path}: {error}") from None


def load_suite(path: str | Path) -> LoadedSuite:
    """Run the Python file at `path` and return the suite it declares.

    It can import what lies beside it (see `harness.domain.beside`).

    Raises:
        SuiteError: naming the file, and the line where there is one, when there is no such file, it does not run, or
            it has no value `suite` that is a Suite.
    """
    file = Path(path)
    try:
        content = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SuiteError(f"{path}: there is no such file; give a suite's Python file{_beside(file)}") from None
    except IsADirectoryError:
        raise SuiteError(f"{path}: is a folder; give a suite's Python file{_beside(file / '-')}") from None
    except OSError as error:
        raise SuiteError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    except UnicodeDecodeError as error:
        raise SuiteError(f"{path}: is no text in UTF-8 ({error}); give a suite's Python file") from None
    source = sources.Source.of(file.resolve(), content)
    module = types.ModuleType(source.module_name)
    try:
        sources.run(source, module)
    except SyntaxError as error:
        here = path if error.filename == source.path else error.filename
        raise SuiteError(f"{here}:{error.lineno}: {error.msg}: {(error.text or '').strip()}") from None
    except (Exception, SystemExit) as error:
        kind = "" if isinstance(error, SuiteError) else f"{type(error).__name__}: "
        told = f"{kind}{readable(str(error))}{_taken(error, module)}"
        raise SuiteError(f"{path}{_line(error, source.path)}: {told}") from None
    if not hasattr(module, "suite"):
        suites = [name for name, value in vars(module).items() if isinstance(value, Suite)]
        hint = f"; it has a Suite named {suites[0]!r}: rename it" if suites else "; add `suite = Suite(...)`"
        raise SuiteError(f"{path}: the file declares no value named `suite`{hint}")
    suite = module.suite
    if not isinstance(suite, Suite):
        raise SuiteError(f"{path}: `suite` is a {type(suite).__name__}, not a Suite; write `suite = Suite(...)`")
    if not suite.description:
        suite = suite.model_copy(update={"description": (module.__doc__ or "").strip()})
    return LoadedSuite(path=str(path), text=content, sha256=source.sha256, suite=suite)


def _line(error: BaseException, path: str) -> str:
    """Return ``":12"``: the last line of the file at `path` that led to `error`."""
    line, step = "", error.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_filename == path:
            line = f":{step.tb_lineno}"
        step = step.tb_next
    return line


def _taken(error: BaseException, module: types.ModuleType) -> str:
    """Return what the function of ours takes that a suite's file called with other arguments."""
    match = re.match(r"(\w+)\(\) (got|takes|missing) ", str(error)) if isinstance(error, TypeError) else None
    if match is None or match[1] not in handy.__all__:
        return ""
    called = getattr(handy, match[1])
    if vars(module).get(match[1], called) is not called:
        return ""
    return f"; {match[1]} takes {', '.join(inspect.signature(called).parameters)}"


def _beside(file: Path) -> str:
    """Return a hint at the suites in the folder of a file that is not there."""
    found = sorted(other.name for other in file.parent.glob("*.py")) if file.parent.is_dir() else []
    return f"; {file.parent} has: {', '.join(found[:20])}" if found else ""
