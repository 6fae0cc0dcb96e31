"""Published values: what others measured for some settings of a suite, or what a node must be able to do.

A reference selects settings by a condition, names a quantity of theirs, and says what is expected of it. Which settings
it holds for: see `harness.domain.applied`; how it is judged: see `harness.analyse.references`.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationInfo, model_validator

from harness.domain.component import Declaration, did_you_mean
from harness.domain.errors import SuiteError, known
from harness.domain.expression import Expression
from harness.domain.metrics import METRICS
from harness.domain.setting import EXECUTION, OBSERVATION

# What every training records of an epoch, besides the metrics.
EPOCH_QUANTITIES = (
    *METRICS, "train_s", "eval_s", "elapsed_train_s", "samples_per_s", "samples", "steps", "chunks",
    "user_cpu_s", "system_cpu_s",
)  # fmt: skip

# The numbers of a whole trial, by their columns.
TRIAL_QUANTITIES = (
    "wall_s", "train_s", "eval_s", "compile_s", "compile_ahead_s", "build_s", "data_s", "record_s", "unattributed_s",
    "user_cpu_s", "system_cpu_s", "epochs_recorded", "best_epoch", "parameters", "train_samples", "val_samples",
    "classes", "initial_val_loss", "initial_val_accuracy", "threads", "peak_rss_bytes", "rss_bytes",
)  # fmt: skip

# Of a trial as well, though no column: when it reached the suite's target, as `harness show` counts it.
TIME_TO_TARGET = "time_to_target"

WHICH_EPOCH = ("last", "best", "all")

# The columns of a trial that its arm is made of, by the setting's field.
ARM_COLUMNS = {name: {"engine": "engine_asked", "node": "node_asked"}.get(name, name) for name in EXECUTION}


def _epoch(value: Any) -> Any:
    if value is None or value in WHICH_EPOCH or (type(value) is int and value >= 1):
        return value
    raise SuiteError(
        f'epoch: expected a whole number from 1, "last", "best" or "all" (the median), or none for a quantity of '
        f"the whole trial, got {value!r}"
    )


def _expression(value: Any, field: ValidationInfo) -> str:
    try:
        return Expression(value).text
    except SuiteError as error:
        raise SuiteError(f"{field.field_name}: {error}") from None


def _condition(value: Any, field: ValidationInfo) -> str:
    text = _expression(value, field)
    for path in Expression(text).names:
        if path.partition(".")[0] in OBSERVATION:
            raise SuiteError(f"{field.field_name}: {path} changes nothing of a training; select by something else")
    return text


def _over(value: Any) -> Any:
    value = (value,) if isinstance(value, str) else value
    for path in value if isinstance(value, list | tuple) else ():
        root = str(path).partition(".")[0]
        if root == "seed" or root in EXECUTION or root in OBSERVATION:
            raise SuiteError(f"over: the mean is taken within one seed and arm, so {path!r} cannot be among its axes")
    return value


_Condition = Annotated[str, BeforeValidator(_condition)]
_Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
_Text = Annotated[str, Field(strict=True)]


class _Published(Declaration):
    """What all references have: a quantity, and where it was published.

    `metric` is a quantity of an epoch, where `epoch` says which, or of the whole trial; or an expression over those.
    ``time_to_target`` is of the whole trial: seconds on the training clock until it reached the suite's own target.
    An `epoch` is a number from 1, "last", "best" (by the metric's own direction) or "all": the median over
    those that are not flagged as warm-up.
    """

    name: Annotated[str, Field(strict=True, min_length=1)]
    metric: Annotated[str, BeforeValidator(_expression)]
    epoch: Annotated[int | str | None, BeforeValidator(_epoch)] = None
    source: _Text = ""
    note: _Text = ""

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except SuiteError as error:
            kind = type(self).__name__
            raise SuiteError(f"{kind.lower()} {values.get('name')!r}: {str(error).removeprefix(f'{kind}: ')}") from None

    @model_validator(mode="after")
    def _is_a_quantity(self) -> _Published:
        names = Expression(self.metric).names
        if not names or any("." in name for name in names):
            raise SuiteError(f"metric: {self.metric!r} is no recorded quantity, such as val_accuracy, nor made of such")
        if self.epoch == "best" and names != (self.metric,):
            raise SuiteError(
                f'metric: which way {self.metric!r} is better is not known; "best" takes a single quantity'
            )
        right = (*TRIAL_QUANTITIES, TIME_TO_TARGET)
        for name in names:
            if self.epoch is None and name not in right:
                hint = "" if name in EPOCH_QUANTITIES else did_you_mean(name, right)
                raise SuiteError(
                    f'metric: without an epoch {name!r} is no quantity of a trial;{hint} say epoch=10 or epoch="last", '
                    f"or take one of: {known(right)}"
                )
            if self.epoch is not None and name in right and name not in EPOCH_QUANTITIES:
                raise SuiteError(f"metric: {name!r} is of the whole trial; leave epoch={self.epoch!r} away")
        return self

    @property
    def needs_target(self) -> bool:
        """Whether it is about the time to the suite's target."""
        return TIME_TO_TARGET in Expression(self.metric).names


class Reference(_Published):
    """A published value of the settings that meet `where`, or a bound that they are to keep.

    `value` is reproduced within `tolerance`, which is absolute; without one it is shown and not judged. `over`
    names axes over which the mean is taken within each seed before it is judged. `hardware` restricts the judgement to
    nodes that have this text in their processor's or a GPU's name, or in their host name.
    """

    where: _Condition = "true"
    value: _Number | None = None
    tolerance: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)] | None = None
    at_least: _Number | None = None
    at_most: _Number | None = None
    over: Annotated[tuple[_Text, ...], BeforeValidator(_over)] = ()
    hardware: Annotated[str, Field(strict=True, min_length=1)] | None = None

    @model_validator(mode="after")
    def _expects_one_thing(self) -> Reference:
        bounded = self.at_least is not None or self.at_most is not None
        if (self.value is not None) is bounded:
            raise SuiteError("give what is expected: either a value, or at_least or at_most")
        if self.tolerance is not None and self.value is None:
            raise SuiteError("a tolerance goes with a value; a bound has none")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise SuiteError(f"at_least is {self.at_least:g}, more than at_most, {self.at_most:g}")
        return self

    @property
    def conditions(self) -> tuple[str, ...]:
        return (self.where,)

    @property
    def can_be_judged(self) -> bool:
        """Whether it says how far off a measured value may be."""
        return self.tolerance is not None or self.value is None


class Direction(_Published):
    """A published order of two groups of settings: the median of `higher` exceeds that of `lower`."""

    higher: _Condition
    lower: _Condition

    @model_validator(mode="after")
    def _has_two_groups(self) -> Direction:
        if self.higher == self.lower:
            raise SuiteError(f"higher and lower are the same condition: {self.higher!r}")
        return self

    @property
    def conditions(self) -> tuple[str, ...]:
        return (self.higher, self.lower)


class Alike(_Published):
    """A published likeness: the quantity is about the same for all settings that meet `where`.

    The largest of their medians is at most ``1 + within`` times the smallest. The settings are held against one
    another in each arm by itself; where there is one setting alone, its arms are.
    """

    where: _Condition = "true"
    within: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]

    @property
    def conditions(self) -> tuple[str, ...]:
        return (self.where,)

    @property
    def most(self) -> float:
        """How many times the smallest median the largest may be."""
        return 1 + self.within


AnyReference = Reference | Direction | Alike
KINDS: dict[str, type[Reference] | type[Direction] | type[Alike]] = {
    "reference": Reference,
    "direction": Direction,
    "alike": Alike,
}


def load_references(path: Path) -> tuple[AnyReference, ...]:
    """Return the references in a TOML file: tables ``[[reference]]``, ``[[direction]]`` and ``[[alike]]`` with their
    fields.

    Raises:
        SuiteError: naming the file, the table, the field and the value, for what is wrong.
    """
    way_out = "give a TOML file with tables [[reference]]"
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SuiteError(f"{path}: cannot be read ({error.strerror}); {way_out}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SuiteError(f"{path}: is no TOML ({error}); {way_out}") from None
    found: list[AnyReference] = []
    for kind, tables in content.items():
        if kind not in KINDS:
            hint = did_you_mean(kind, KINDS)
            tables_are = "the tables are [[reference]], [[direction]] and [[alike]]"
            raise SuiteError(f"{path}: unknown table {kind!r};{hint} {tables_are}")
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise SuiteError(f"{path}: {kind} is not a list of tables; write [[{kind}]], in double brackets")
        for number, table in enumerate(tables, 1):
            try:
                found.append(KINDS[kind](**table))
            except SuiteError as error:
                raise SuiteError(f"{path}: [[{kind}]] number {number}: {error}") from None
    if not found:
        raise SuiteError(f"{path}: holds no reference; write tables [[reference]] with name, metric and a value")
    return tuple(found)
