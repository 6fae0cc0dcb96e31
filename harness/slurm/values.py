"""The values that a profile's keys take: each is checked, and brought into one form, on its way in."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from harness.domain.duration import duration
from harness.domain.errors import SuiteError
from harness.slurm.further_options import further_option
from harness.slurm.quoting import unwritable
from harness.slurm.times import slurm_form, time_limit

_GPUS = re.compile(r"(?:[A-Za-z0-9][\w.-]*:)?\d+", re.ASCII)
_MEMORY = re.compile(r"\d+[KMGT]?", re.ASCII | re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_MOST_WARN_S = 65535  # sbatch takes no more for --signal


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or unwritable(value) is not None:
        raise ValueError("must be a text that is not empty, on one line and without control characters")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError("must be a list of texts")
    return tuple(map(_text, value))


def _folder(value: Any) -> str:
    try:
        return str(Path(_text(value)).expanduser())
    except RuntimeError:
        raise ValueError("must be a folder; there is no such user's") from None


def _words(value: Any) -> tuple[str, ...]:
    """Return a command's words: a list as it is, a text split as the shell splits it."""
    try:
        words = _texts(shlex.split(value) if isinstance(value, str) else value)
    except ValueError:
        words = ()
    if not words:
        raise ValueError('must be a command, such as "apptainer exec --nv image.sif", or the list of its words')
    return words


def _one_line(value: Any) -> bool:
    """Whether it is a text that a line of a script can hold; tabs and the like may stand in what the shell reads."""
    if not isinstance(value, str):
        return False
    return not any(character in "\n\r\0" or "\ud800" <= character <= "\udfff" for character in value)


def _shell_lines(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(map(_one_line, value)):
        raise ValueError("must be a list of lines of shell, each without a newline")
    return tuple(value)


def _further_options(value: Any) -> tuple[str, ...]:
    return tuple(map(further_option, _texts(value)))


def _environment(value: Any) -> dict[str, str]:
    # The values are not shown, but for those of a wrong kind: they may be secrets.
    if not isinstance(value, Mapping):
        raise ValueError("must be a table of names and texts")
    for name, text in value.items():
        if not _NAME.fullmatch(str(name)):
            raise SuiteError(f"environment: {name!r} is no name of a variable; use letters, digits and underscores")
        if not isinstance(text, str):
            raise SuiteError(f'environment: {name} must be a text, in quotes, such as "4"; got {text!r}')
        if not _one_line(text):
            raise SuiteError(
                f"environment: {name} cannot hold a newline, NUL or a byte that is no UTF-8; set it in a line of setup"
            )
    return dict(value)


def _gpus(value: Any) -> int | str:
    if isinstance(value, str) and _GPUS.fullmatch(value):
        return int(value) if value.isdigit() else value
    if type(value) is int and value >= 0:
        return value
    raise ValueError('must be a whole number, or one with its type, such as "a100:4"')


def _memory(value: Any) -> str:
    if not isinstance(value, str) or not _MEMORY.fullmatch(value):
        raise ValueError('must be a text with a unit out of K, M, G and T, such as "64G"; "0" is all of the node')
    return value


def _time(value: Any) -> str:
    if type(value) is int:
        value = str(value)
    if not isinstance(value, str):
        raise ValueError('must be minutes or a text, in quotes, such as "2:00:00", "1-12" or "90m"')
    try:
        return slurm_form(time_limit(value))
    except SuiteError as error:
        raise ValueError(f"is refused: {error}") from None


def _duration(value: Any) -> str:
    try:
        seconds = duration(value)
    except SuiteError as error:
        raise ValueError(f"is refused: {error}") from None
    return value.replace(" ", "") if isinstance(value, str) else f"{seconds:.15g}s"


def _warn(value: Any) -> str:
    text = _duration(value)
    if not 1 <= duration(text) <= _MOST_WARN_S:
        raise ValueError("must be from 1s to 18h")
    return text


Text = Annotated[str, BeforeValidator(_text)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_texts)]
Folder = Annotated[str, BeforeValidator(_folder)]
Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
ShellLines = Annotated[tuple[str, ...], BeforeValidator(_shell_lines)]
FurtherOptions = Annotated[tuple[str, ...], BeforeValidator(_further_options)]
Environment = Annotated[dict[str, str], BeforeValidator(_environment)]
Gpus = Annotated[int | str, BeforeValidator(_gpus)]
Memory = Annotated[str, BeforeValidator(_memory)]
Time = Annotated[str, BeforeValidator(_time)]
Duration = Annotated[str, BeforeValidator(_duration)]
Warn = Annotated[str, BeforeValidator(_warn)]
Flag = Annotated[bool, Field(strict=True)]
Count = Annotated[int, Field(strict=True, ge=1)]
