"""docs/three_questions.ipynb, run as a reader would run it. As a program, this writes what it says into it anew."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[1] / "docs" / "three_questions.ipynb"


def executed() -> Any:
    """Return the notebook with what its cells say now."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    metadata = dict(notebook.metadata)
    folder = {"metadata": {"path": str(NOTEBOOK.parent)}}
    NotebookClient(notebook, timeout=120, record_timing=False, resources=folder).execute()
    notebook.metadata.clear()  # of which version of Python it ran in
    notebook.metadata.update(metadata)
    return notebook


def said(notebook: Any) -> list[str]:
    """Return what each cell says as text, whatever the spaces between the words; of drawings only that there is one."""
    told = []
    for cell in notebook.cells:
        texts = [one.get("text") or one.get("data", {}).get("text/plain", "") for one in cell.get("outputs", [])]
        told.append(" ".join("".join(texts).split()))
    return told


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_notebook_runs_and_says_what_it_says_in_the_repository(
    require: Callable[[object, str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("nbformat", "nbclient", "ipykernel"):
        require(find_spec(package), f"{package} is not installed: the notebook cannot be run")
    import nbformat

    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    stored = nbformat.read(NOTEBOOK, as_version=4)
    assert said(executed()) == said(stored), "run: python tests/test_notebook.py, and read whether its text still holds"


def test_the_notebook_holds_small_drawings_and_nothing_of_the_machine_it_ran_on() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert text.count('"image/svg+xml"') == 3
    assert len(text) < 200_000
    for trace in ("/home/", "/root/", "/tmp/", "/work", "/usr/", "stderr"):
        assert trace not in text, trace


if __name__ == "__main__":
    import nbformat

    nbformat.write(executed(), NOTEBOOK)
