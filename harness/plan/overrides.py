"""The command line's PATH=VALUE[,VALUE…] → a path and its values."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from harness.domain.errors import SuiteError

Override = tuple[str, tuple[Any, ...]]  # a path, and the plain values that replace whatever the grid says of it

_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_WORDS: Final = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None}
_CLOSING: Final = {"(": ")", "[": "]", "{": "}"}


def parse_override(argument: str) -> Override:
    """Return the path and the values of ``PATH=VALUE[,VALUE…]``.

    A value is a number, ``true``, ``false``, ``null``, a bare word, a text in quotes, a list (``[128,64]``), or a
    component (``adam(learning_rate=0.01)``).

    Raises:
        SuiteError: naming the argument, for anything else.
    """
    path, equals, values = argument.partition("=")
    path = path.strip()
    if not equals or not path or not values.strip():
        raise SuiteError(f"--set {argument!r}: expected PATH=VALUE or PATH=VALUE,VALUE…, such as batch_size=32,64")
    try:
        found = tuple(_value(part) for part in _split(values))
    except ValueError as error:
        raise SuiteError(f"--set {argument!r}: {error}") from None
    if len(set(map(repr, found))) < len(found):
        raise SuiteError(f"--set {argument!r}: a value is given twice")
    return path, found


def _split(values: str) -> list[str]:
    """Return the parts between the commas that stand outside brackets and quotes."""
    parts, start, open_, quote = [], 0, [], ""
    for place, character in enumerate(values):
        if quote:
            quote = "" if character == quote and values[place - 1] != "\\" else quote
        elif character in "'\"":
            quote = character
        elif character in _CLOSING:
            open_.append(_CLOSING[character])
        elif open_ and character == open_[-1]:
            open_.pop()
        elif character in ")]}":
            raise ValueError(f"unexpected {character!r} in {values!r}")
        elif character == "," and not open_:
            parts.append(values[start:place])
            start = place + 1
    if quote or open_:
        raise ValueError(f"missing {quote or open_[-1]!r} in {values!r}")
    return [*parts, values[start:]]


def _value(written: str) -> Any:
    """Return the plain value of one part."""
    written = written.strip()
    if not written:
        raise ValueError("a value is empty")
    if written in _WORDS:
        return _WORDS[written]
    if _NUMBER.fullmatch(written):
        return int(written) if written.lstrip("+-").isdigit() else float(written)
    if written[0] in "'\"" and written[-1] == written[0] and len(written) > 1:
        return written[1:-1].replace("\\" + written[0], written[0])
    if written[0] == "[" and written[-1] == "]":
        return [_value(part) for part in _split(written[1:-1])] if written[1:-1].strip() else []
    if written[0] == "{":
        try:
            return json.loads(written)
        except json.JSONDecodeError as error:
            raise ValueError(f"{written!r} is not JSON: {error}") from None
    if (component := re.fullmatch(r"(\w+)\((.*)\)", written, re.DOTALL)) is not None:
        return {"name": component[1], **dict(_argument(part) for part in _split(component[2]) if part.strip())}
    if re.search(r"[\[\](){}'\"]", written):
        raise ValueError(f"cannot read the value {written!r}")
    return written


def _argument(written: str) -> tuple[str, Any]:
    name, equals, value = written.partition("=")
    if not equals or not name.strip().isidentifier():
        raise ValueError(f"{written.strip()!r} is no argument; write name=value, such as sgd(learning_rate=0.1)")
    return name.strip(), _value(value)
