"""Texts in a job's script: as sbatch reads its own lines, and as the shell reads the others."""

from __future__ import annotations

import shlex
import unicodedata
from collections.abc import Iterable

from harness.domain.errors import SetupError

_CANNOT = {"Cc": "control characters", "Cs": "bytes that are no UTF-8"}


def unwritable(text: str) -> str | None:
    """Return the first character that no ``#SBATCH`` line can hold: a control character, or a byte that is no UTF-8."""
    return next((character for character in text if unicodedata.category(character) in _CANNOT), None)


def quoted(value: str) -> str:
    r"""Return a value for ``#SBATCH --option=…``: in double quotes, ``"`` and ``\`` with a ``\`` before them.

    sbatch knows no more than these: ``$``, backticks, ``#`` and single quotes stand for themselves.

    Raises:
        SetupError: for what such a line cannot hold, newlines above all.
    """
    _expect_a_line(value)
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def output_path(folder: str, name: str) -> str:
    r"""Return the value of ``--output`` (not yet quoted) for a file in `folder`, which is taken as it is.

    `name` may hold Slurm's patterns, such as ``%a``. In a path with a ``\`` Slurm replaces no pattern, and takes
    each ``\`` away that has none before it.

    Raises:
        SetupError: where `folder` holds a ``\`` and `name` a pattern.
    """
    if "\\" not in folder + name:
        return f"{folder.replace('%', '%%')}/{name}"
    if "%" in name:
        raise SetupError(
            f"{folder!r} holds a backslash, and Slurm then gives all tasks of an array one log; "
            "choose a results folder without"
        )
    return f"{folder}/{name}".replace("\\", "\\\\")


def in_shell(words: Iterable[str]) -> str:
    """Return words as the shell reads them back, one by one."""
    return " ".join(map(shlex.quote, words))


def _expect_a_line(text: str) -> None:
    if (found := unwritable(text)) is not None:
        what = _CANNOT[unicodedata.category(found)]
        raise SetupError(f"{text!r} holds {found!r}: {what} cannot be written in a job's script; choose another")
