"""The command of a program with a trial's values in their places, and the files beside the suite that it names."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from harness.domain.beside import named_files
from harness.domain.component import text
from harness.domain.errors import SuiteError
from harness.domain.expression import unknown_path
from harness.domain.paths import MISSING, leaves, read
from harness.domain.setting import Setting
from harness.domain.sources import Source
from harness.domain.trial import Trial

_PLACES: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


def fill(
    words: Sequence[str], setting: Setting, *, seed: int = 0, trial_id: str = "", suite_dir: str = "."
) -> list[str]:
    """Return a command with the values of a trial in their places.

    A path to a component stands for its name, as in conditions. `suite_dir` is where the suite's files are.

    Raises:
        SuiteError: for a path that the setting does not have, and for a brace that is alone.
    """
    plain = setting.plain()
    own = {"seed": str(seed), "trial_id": trial_id, "python": sys.executable, "suite_dir": suite_dir}

    def value(found: re.Match[str]) -> str:
        if found[0] in ("{{", "}}"):
            return found[0][0]
        if found[1] is None:
            raise SuiteError(f"program: a brace is alone in {found.string!r}; write {{{{ and }}}} for braces")
        if found[1] in own:
            return own[found[1]]
        meant = read(plain, found[1]) if found[1] else MISSING
        if meant is MISSING:
            told = unknown_path(found[1], [*own, *leaves(plain)])
            raise SuiteError(f"program: {found.string!r} names an {told}; write {{{{ and }}}} for braces")
        return str(meant["name"]) if isinstance(meant, dict) and "name" in meant else text(meant)

    return [_PLACES.sub(value, word) for word in words]


def files_of(trial: Trial, sources: Mapping[str, Source]) -> Source | None:
    """Return the files beside the suite that the command names.

    Raises:
        SuiteError: for one that did not travel.
    """
    args = trial.setting.workload.args
    named = named_files(args["command"])
    if not named:
        return None
    found = sources.get(args.get("sha256") or "")
    lacking = set(named).difference(one.path for one in found.beside) if found is not None else set(named)
    if found is None or lacking:
        raise SuiteError(
            f"program: {{suite_dir}}/{min(lacking, default=named[0])} did not travel: only the files do that "
            "program(...) names, called in the suite's file; to vary the file, vary the workload: "
            "product(workload=[program(...), program(...)])"
        )
    return found


def command(trial: Trial, suite_dir: str) -> list[str]:
    words = trial.setting.workload.args["command"]
    return fill(words, trial.setting, seed=trial.seed, trial_id=trial.trial_id, suite_dir=suite_dir)
