"""Options that several commands have in common, each declared once: a command takes a group of them as one value."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any

from harness.cli.options import (
    Address,
    Budget,
    Calibrate,
    Force,
    Inline,
    MaxFail,
    NoResident,
    Patience,
    Results,
    Resume,
    Retry,
    RunId,
    Set,
    SkipBadNodes,
    Small,
    TakeOver,
    Telemetry,
    Where,
    Workers,
)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Which trials of a suite, and how they are run: of `run`, `aa` and `submit`."""

    overrides: Set = None
    where: Where = None
    small: Small = False
    workers: Workers = None
    retry: Retry = ""
    max_fail: MaxFail = None
    budget: Budget = None
    patience: Patience = "5m"
    skip_bad_nodes: SkipBadNodes = False
    telemetry: Telemetry = 5.0
    calibrate: Calibrate = True

    def given(self) -> dict[str, list[str]]:
        """Return the options that are not as if left out, as a command line has them, each with its values."""
        left_out = Asked()
        lists = {"--set": self.overrides, "--where": self.where}
        values = {
            "--workers": self.workers,
            "--retry": self.retry or None,
            "--max-fail": self.max_fail,
            "--budget": self.budget,
            "--patience": None if self.patience == left_out.patience else self.patience,
            "--telemetry": None if self.telemetry == left_out.telemetry else self.telemetry,
        }
        flags = {
            "--small": self.small,
            "--skip-bad-nodes": self.skip_bad_nodes,
            "--no-calibrate": not self.calibrate,
        }
        return {
            **{option: several for option, several in lists.items() if several},
            **{option: [str(value)] for option, value in values.items() if value is not None},
            **{option: [] for option, wanted in flags.items() if wanted},
        }


@dataclass(frozen=True, kw_only=True)
class Here:
    """Whose records, and on which machines: of `run` and `aa`."""

    results: Results = Path("results")
    resume: Resume = False
    run_id: RunId = None
    force: Force = False
    take_over: TakeOver = False
    address: Address = None
    inline: Inline = False
    no_resident: NoResident = False


def words(given: Mapping[str, list[str]]) -> Iterator[str]:
    """Yield options as a command line has them."""
    for option, values in given.items():
        if not values:
            yield option
        for value in values:
            yield from (option, value)


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command as Typer is to see it: with the options of a group in the place of the group."""
    own = inspect.signature(command, eval_str=True).parameters.values()
    groups = {
        one.name: one.annotation for one in own if isinstance(one.annotation, type) and is_dataclass(one.annotation)
    }
    options = {name: inspect.signature(group, eval_str=True).parameters for name, group in groups.items()}

    @functools.wraps(command)
    def gathered(**given: Any) -> None:
        made = {
            name: group(**{option: given.pop(option) for option in options[name]}) for name, group in groups.items()
        }
        command(**given, **made)

    seen: list[inspect.Parameter] = []
    for one in own:
        # By name alone, as the groups are: Typer calls so, and one without a default may follow one that has one.
        seen += options[one.name].values() if one.name in groups else [one.replace(kind=inspect.Parameter.KEYWORD_ONLY)]
    gathered.__signature__ = inspect.Signature(seen)  # type: ignore[attr-defined]
    return gathered
