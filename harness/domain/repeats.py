"""Repeats that go on until a figure is known well enough: what ``repeats="auto"`` asks for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from harness.domain.component import Declaration
from harness.domain.errors import SuiteError
from harness.domain.setting import Setting

# What has a logarithm: above 0 wherever it was measured. CPU times are counted in ticks, and so often 0.
TIMES = ("train_s", "eval_s", "samples_per_s", "time_to_target")
_CPU_TIMES = ("user_cpu_s", "system_cpu_s")

# Half-width of the 98 % confidence interval of a mean log at which two arms can be told apart as designed. For n
# repeats of standard deviation s it is z.99 s / sqrt(n), and a two-sided test at 2 % finds a ratio r with 95 % power
# where (z.99 + z.95) s sqrt(2 / n) <= ln r (the normal sample-size formula; any book on the design of experiments).
# With r = 1.1: z.99 ln(1.1) / ((z.99 + z.95) sqrt(2)) = 2.326 * 0.0953 / (3.971 * 1.414) = 0.0395.
WITHIN_TIMES = 0.039
WITHIN_METRICS = 0.01

LEAST, MOST = 3, 10_000  # repeats
MOST_NEEDED = 1_000_000  # repeats up to which it is told how many would be needed; one more stands for all above

LABELS = ("A", "B")  # the names under which `harness aa` runs the same settings


def unlabelled(arm: str) -> str:
    """Return what an arm is called without its label."""
    return ",".join(part for part in arm.split(",") if not part.startswith("label=")) or "default"


def _within(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf:
        return float(value)
    hint = ""
    if isinstance(value, str):
        with suppress(ValueError):
            meant = float(value.strip().removesuffix("%")) / (100 if "%" in value else 1)
            hint = f"; write {meant:g}" if 0 < meant < math.inf else ""
    raise SuiteError(f"auto: within must be a number above 0, got {value!r}{hint}")


class Auto(Declaration):
    """As many repeats as `figure` needs, from `at_least` to `at_most`.

    They go on, block by block, until for every arm of a setting the 98 % confidence interval of the mean is within
    ± `within`: of the log, and so relative, for times and rates (`TIMES`); absolute for metrics such as val_accuracy.
    Without `within` that is 0.039 for times, with which two arms find a slow-down of 10 % with 95 % power at 2 % false
    alarms, and 0.01 for metrics. A time of a trial is the median over its epochs that are no warm-up; a metric that of
    its `epoch`, "last" or "best"; "time_to_target" the time on the training clock to the suite's target.
    """

    called: ClassVar[str] = "auto"

    figure: str = "train_s"
    within: Annotated[float | None, BeforeValidator(_within)] = None
    at_least: Annotated[int, Field(ge=LEAST, le=MOST, strict=True)] = 5
    at_most: Annotated[int, Field(ge=LEAST, le=MOST, strict=True)] = 50
    epoch: Literal["last", "best"] = "last"

    @model_validator(mode="after")
    def _fits_together(self) -> Auto:
        if self.at_least > self.at_most:
            raise SuiteError(f"auto: at_least is {self.at_least}, more than at_most, which is {self.at_most}")
        if self.relative and self.half_width >= 1:
            raise SuiteError(f"auto: within is relative for {self.figure}, and so below 1, got {self.within}")
        if self.relative and self.epoch == "best":
            raise SuiteError(f'auto: epoch="best" is for metrics; {self.figure} is a time or rate of the whole trial')
        return self

    @classmethod
    def of(cls, value: Any) -> Any:
        """Return the `Auto` that "auto", or a mapping named so, stands for; anything else as it is."""
        if value == "auto":
            return cls()
        if isinstance(value, Mapping) and value.get("name") == "auto":
            return cls(**{key: item for key, item in value.items() if key not in ("name", "kind")})
        return value

    @property
    def relative(self) -> bool:
        """Whether `half_width` is of the log of the figure."""
        return self.figure in TIMES

    @property
    def half_width(self) -> float:
        """What the interval is to be within, resolved."""
        if self.within is not None:
            return self.within
        return WITHIN_TIMES if self.relative else WITHIN_METRICS

    def plain(self) -> dict[str, Any]:
        """Return the flat mapping that stands for this in files and on the command line."""
        return {"name": "auto", **super().plain()}

    def check(self, base: Setting, *, with_target: bool) -> None:
        """Raise for a figure that the trials of a suite do not have; those of functions and programs may have any.

        Raises:
            SuiteError: naming the figures that there are.
        """
        if self.figure == "time_to_target" and not with_target:
            raise SuiteError("repeats: auto on time_to_target needs a target; say target=0.9, or choose another figure")
        if self.figure in TIMES:
            return
        if self.figure in _CPU_TIMES:
            raise SuiteError(
                f"repeats: auto cannot go by {self.figure}, which is 0 for short epochs; the figures are "
                f"{', '.join(TIMES)}, and the metrics"
            )
        try:
            base.check_measured(self.figure, "repeats")
        except SuiteError as error:
            raise SuiteError(f"{error}; or one of the times: {', '.join(TIMES)}") from None

    def __str__(self) -> str:
        return f"{self.at_least} to {self.at_most} repeats"
