"""What a program's time went into, as its lines tell."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from harness.workloads.protocol import Span, Stopwatch, Timing
from harness.workloads.reported import ReportError

_TOLD_TOO_MUCH: Final = 1.05  # what a program states may be so many times what has passed by this clock,
_LATE_S: Final = 0.5  # and all epochs together so much more: on a busy node the line before one may be read late


class Clock:
    """Sorts a program's time, as its lines come, into building, training and evaluation.

    What comes after the last epoch is none of them.
    """

    def __init__(self, watch: Stopwatch) -> None:
        self._watch = watch
        self._ready = False
        self._evaluating = False
        self._mark = watch.reading()
        self._train = self._eval = Span()
        self._started_at = self._watch.unix_s()
        self._spare_s = 0.0  # passed, and stated by no epoch: the time of lines that the program holds back for a while
        self._spare_built_s = 0.0  # that part of it which counts as building until then
        self._late_s = _LATE_S  # left of what lines may have been read late

    def ready(self) -> None:
        """What has been was building, and evaluating the untrained state."""
        self._book()
        if not self._ready:
            self._watch.transfer(self._train, "program", "build")
            self._watch.transfer(self._eval, "program", "eval")
            self._next()

    def evaluating(self) -> None:
        """What comes now is evaluation."""
        self._book()
        self._evaluating = True

    def end_epoch(self, where: str, train_s: float | None, eval_s: float | None) -> Timing:
        """Return an epoch's timing by this clock, or as it was told in seconds.

        Raises:
            ReportError: when more was told than has passed.
        """
        self._book()
        passed_s = self._train.wall_s + self._eval.wall_s
        told_s = (train_s or 0.0) + (eval_s or 0.0)
        there_s = passed_s + self._spare_s
        over_s = max(0.0, told_s - _TOLD_TOO_MUCH * there_s)
        if over_s > self._late_s:
            raise ReportError(
                f"{where} states {told_s:g} s of training and evaluation where {there_s:.3g} s have passed; "
                "train_s and eval_s are the seconds of one epoch"
            )
        self._late_s -= over_s
        back = Span(min(max(0.0, told_s - passed_s), self._spare_built_s))
        self._watch.transfer(back, "build", "program")
        self._spare_built_s -= back.wall_s
        late = Span(min(max(0.0, told_s - there_s), self._watch["build"].wall_s))
        self._watch.transfer(late, "build", "program")  # the line that was read late was the one that ended it
        train = self._train if train_s is None else replace(self._train, wall_s=train_s)
        evaluated = self._eval if eval_s is None else replace(self._eval, wall_s=eval_s)
        self._watch.transfer(train, "program", "train")
        self._watch.transfer(evaluated, "program", "eval")
        if train_s is not None:
            self._spare_s = max(0.0, there_s - told_s)
            if not self._ready:
                unstated = Span(max(0.0, passed_s - told_s))
                self._watch.transfer(unstated, "program", "build")
                self._spare_built_s += unstated.wall_s
        timing = Timing(
            train=train,
            eval_s=evaluated.wall_s or None,
            started_at=self._started_at,
            ended_at=self._watch.unix_s(),
            warmup=not self._ready and train_s is None,
        )
        self._next()
        return timing

    def _book(self) -> None:
        """Add what has passed since the last line to what it was."""
        now = self._watch.reading()
        span, self._mark = now - self._mark, now
        if self._evaluating:
            self._eval += span
        else:
            self._train += span

    def _next(self) -> None:
        self._ready, self._evaluating = True, False
        self._train = self._eval = Span()
        self._started_at = self._watch.unix_s()
