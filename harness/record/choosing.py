"""Which of many runs are read: by id, by suite, or by a condition on what their run.json holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from harness.domain.errors import ResultsError, SuiteError
from harness.domain.expression import Expression, unknown_path
from harness.domain.paths import MISSING, leaves, read
from harness.record.runs import FILE, read_run


def choose(folders: Sequence[Path], wanted: Sequence[str] | None) -> dict[Path, dict[str, Any]]:
    """Return the folders of the runs that one of `wanted` names or holds for, each with its run.json; None: all.

    Of a run whose run.json cannot be read, ``suite`` and ``run_id`` are its folders' names and ``state`` is
    ``unreadable``, so that it can be left out.

    Raises:
        ResultsError: when none is chosen, for what is neither a name nor a condition, and for a chosen run that cannot
            be read.
    """
    facts: dict[Path, dict[str, Any]] = {}
    problems: dict[Path, ResultsError] = {}
    for folder in folders:
        try:
            facts[folder] = _read(folder)
        except ResultsError as error:
            problems[folder] = error
            facts[folder] = {"suite": folder.parent.name, "run_id": folder.name, "state": "unreadable"}
    chosen = set(facts) if wanted is None else {folder for one in wanted for folder in _chosen(one, facts)}
    for folder in facts:
        if folder in chosen and folder in problems:
            way = "; or leave it out: harness.load(…, runs=\"state != 'unreadable'\")" if len(folders) > 1 else ""
            raise ResultsError(f"{problems[folder]}{way}") from problems[folder]
    if not chosen:
        raise ResultsError(f"runs={wanted!r} chooses none of the {len(facts)} runs here")
    return {folder: content for folder, content in facts.items() if folder in chosen}


def _read(folder: Path) -> dict[str, Any]:
    content = read_run(folder)
    if not isinstance(content.get("run_id"), str):
        raise ResultsError(
            f"{folder / FILE}: is damaged (it has no run_id); restore it from a copy, or remove the run's folder"
        )
    return content


def _chosen(wanted: str, facts: Mapping[Path, dict[str, Any]]) -> list[Path]:
    named = [folder for folder, content in facts.items() if wanted in (content.get("run_id"), content.get("suite"))]
    if named:
        return named
    try:
        condition = Expression(wanted)
        for path in condition.names:
            if all(_fact(content, path) is MISSING for content in facts.values()):
                known = {name for content in facts.values() for name in leaves(content)}
                raise SuiteError(unknown_path(path, sorted({*known, "commit", "dirty"} - {"suite_text"})))
        return [folder for folder, content in facts.items() if condition.holds(partial(_value, content))]
    except SuiteError as error:
        raise ResultsError(f"runs={wanted!r} is no run's id or suite here, and no condition: {error}") from None


def _value(content: dict[str, Any], path: str) -> Any:
    value = _fact(content, path)
    return None if value is MISSING else value


def _fact(content: dict[str, Any], path: str) -> Any:
    if path in ("commit", "dirty"):
        return read(content, f"attempts.0.suite_git.{path}")
    return read(content, path)
