"""Own Python functions inside a declaration: identified by their file's hash and qualified name.

The text of the file travels to the worker with the trials, so that a node needs no copy of the suite.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.domain.errors import SuiteError


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A Python file as text. `folder` is put on the import path, for files that the text imports."""

    path: str
    folder: str
    text: str
    sha256: str

    @classmethod
    def of(cls, path: Path, text: str) -> Source:
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        return cls(path=str(path), folder=str(path.parent), text=text, sha256=sha256)

    @property
    def module_name(self) -> str:
        return f"_harness_source_{self.sha256[:16]}"


_collected: dict[str, Source] = {}
_running: dict[str, Source] = {}  # by the name of the module that the text runs as


def run(source: Source, module: types.ModuleType) -> None:
    """Run the text of `source` as `module`, its folder on the import path.

    Raises:
        BaseException: whatever the text raises; the module is forgotten then.
    """
    module.__file__ = source.path
    sys.modules[source.module_name] = module
    _running[source.module_name] = source
    if source.folder not in sys.path:
        sys.path.insert(0, source.folder)
    try:
        exec(compile(source.text, source.path, "exec"), module.__dict__)
    except BaseException:
        del sys.modules[source.module_name]
        raise


def collected() -> dict[str, Source]:
    """Return every source file that a declaration of this process has named, by its sha256."""
    return dict(_collected)


def describe(function: Callable[..., Any]) -> dict[str, str]:
    """Return the identity of a function, ``{"function": qualified name, "sha256": hash of its file}``.

    Raises:
        SuiteError: for what another process could not find again: lambdas, nested functions, built-ins.
    """
    name = getattr(function, "__qualname__", repr(function))
    if "<lambda>" in name or "<locals>" in name:
        raise SuiteError(
            f"{name} cannot be sent to a worker; define the function at the top level of the suite's file with `def`"
        )
    module = getattr(function, "__module__", "")
    source = _running.get(module)
    if source is None:  # not from a suite's file, nor from a text that travelled: a module as Python imports it
        try:
            path = inspect.getsourcefile(function)
            source = Source.of(Path(path), Path(path).read_text(encoding="utf-8")) if path else None
        except (TypeError, OSError):
            pass
    if source is None or module not in sys.modules:
        raise SuiteError(f"{name} has no Python source file; define it in the suite's file or in one beside it")
    _collected.setdefault(source.sha256, source)
    return {"function": name, "sha256": source.sha256}


def resolve(function: str, sha256: str, sources: dict[str, Source]) -> Callable[..., Any]:
    """Return the function that `describe` named, importing its source text once a process."""
    source = sources[sha256]
    module = sys.modules.get(source.module_name)
    if module is None:
        module = types.ModuleType(source.module_name)
        run(source, module)
    found: Any = module
    for part in function.split("."):
        found = getattr(found, part)
    return found  # type: ignore[no-any-return]
