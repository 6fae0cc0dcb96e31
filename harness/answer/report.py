"""What the user named → one HTML file: gathered, made into tables, drawn, and written whole or not at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from harness.answer.gather import gather
from harness.domain.errors import ResultsError

NAME = "report.html"


def report(
    names: Sequence[str],
    *,
    output: Path | None = None,
    results: Path = Path("results"),
    where: Sequence[str] = (),
    discard: Sequence[str] = (),
    target: str | float | None = None,
) -> Path:
    """Write a report on the runs that the user named (see `gather`), and return its file.

    Without an `output` that is report.html: in the run's folder, or of several runs in the current one. An older report
    is replaced.

    Raises:
        ResultsError: when there is nothing to report on (see `gather`), or `output` cannot be written.
        SuiteError: for an expression, a warning or a target that is none.
    """
    gathered = gather(names, results=results, where=where, discard=discard, target=target)
    gathered = replace(gathered, naming=_brief(gathered.naming))
    folders = gathered.results.folders
    path = output if output is not None else folders[0] / NAME if len(folders) == 1 else Path(NAME)
    _expect_room(path)
    from harness.answer.contents.page import contents  # with Altair, which a wrong request need not wait for
    from harness.answer.tables import tables
    from harness.report.page import render

    page = render(contents(tables(gathered), results=results, where=where, asked=target is not None))
    _write(path, page)
    return path


def _brief(naming: Mapping[str, str]) -> dict[str, str]:
    """Return the axes by the last words of their paths where these tell them apart: labels stand in charts."""
    last = {path: path.rpartition(".")[2] for path in naming}
    counts = Counter(last.values())
    return {last[path] if counts[last[path]] == 1 else path: column for path, column in naming.items()}


def _expect_room(path: Path) -> None:
    """Raise an error for a place that cannot be written to before anything is computed."""
    if path.is_dir():
        raise ResultsError(f"{path}: is a folder; name a file, such as {path / NAME}")
    if not path.parent.is_dir():
        raise ResultsError(f"{path}: there is no folder {path.parent}; make it, or name another place with --output")


def _write(path: Path, text: str) -> None:
    aside = path.with_name(f".{path.name}.tmp")
    try:
        aside.write_text(text, encoding="utf-8")
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise ResultsError(f"{path}: cannot be written ({error.strerror}); name another place with --output") from error
