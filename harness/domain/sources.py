"""Own Python functions inside a declaration: identified by the hash of their file and their qualified name.

The text of the file travels to the worker with the trials, and so do those of the modules beside it that it imports
(see `beside`): a node needs no copy of the suite's folder. Where there are such modules they enter the hash, since they
change what the function does.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
import sysconfig
import types
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.domain import beside
from harness.domain.beside import Beside
from harness.domain.errors import SuiteError


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A Python file as text, with the modules `beside` it; or the files of a program, all of them `beside`."""

    path: str
    folder: str  # what imports in it, and the paths of what is beside, start from
    text: str
    sha256: str
    package: str = ""  # where the file is part of one: what its relative imports start from
    beside: tuple[Beside, ...] = ()

    @classmethod
    def of(cls, path: Path, text: str, *, folder: Path | None = None, package: str = "") -> Source:
        """Return a file that is run as a script is, or as part of a `package` whose top lies in `folder`."""
        folder = path.parent if folder is None else folder
        near = () if _installed(path) else beside.find(text, file=path, folder=folder, package=package)
        sha256 = _hash(text, near)
        return cls(path=str(path), folder=str(folder), text=text, sha256=sha256, package=package, beside=near)

    @classmethod
    def of_files(cls, folder: Path, named: Sequence[str]) -> Source:
        """Return files that a program is given, by their paths below `folder`.

        Raises:
            SuiteError: for a file that is not there, is no text, or not below the folder.
        """
        found = {one.path: one for one in beside.files(named, folder)}
        near = beside.bounded(folder, [found[path] for path in sorted(found)])
        source = cls(path=str(folder), folder=str(folder), text="", sha256=_hash("", near), beside=near)
        return _collected.setdefault(source.sha256, source)

    @property
    def module_name(self) -> str:
        return f"_harness_source_{self.sha256[:16]}"

    def lie_in(self, folder: Path) -> bool:
        """Whether each of the files `beside` is in a folder, with the same text."""
        try:
            return all((folder / one.path).read_text(encoding="utf-8") == one.text for one in self.beside)
        except (OSError, UnicodeDecodeError):
            return False

    def write(self, folder: Path) -> None:
        """Put the files `beside` into a folder.

        Raises:
            OSError: when that cannot be.
        """
        for one in self.beside:
            place = folder / one.path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(one.text, encoding="utf-8")


def _hash(text: str, near: Iterable[Beside]) -> str:
    texts = [[one.path, one.text] for one in near]
    return hashlib.sha256((json.dumps([text, texts]) if texts else text).encode()).hexdigest()


def _installed(path: Path) -> bool:
    """Whether a file belongs to an installed package or to Python, which nodes have by themselves."""
    places = sysconfig.get_paths()
    return any(path.is_relative_to(places[name]) for name in ("stdlib", "platstdlib", "purelib", "platlib"))


_collected: dict[str, Source] = {}
_running: dict[str, Source] = {}  # by the name of the module that the text runs as


def run(source: Source, module: types.ModuleType) -> None:
    """Run the text of `source` as `module`.

    What it imports from its folder by a name that only it knows is looked for there last.

    Raises:
        BaseException: whatever the text raises; the module is forgotten then.
    """
    root = beside.root_of(source.sha256)
    module.__file__ = source.path
    if source.package:
        module.__package__ = f"{root}.{source.package}"
    if source.beside:
        vars(module)["__builtins__"] = beside.offer(root, Path(source.folder), source.beside)
    sys.modules[source.module_name] = module
    _running[source.module_name] = source
    if source.folder not in sys.path:
        sys.path.append(source.folder)
    beside.show_lines(source.path, source.text)
    try:
        exec(compile(source.text, source.path, "exec", dont_inherit=True), vars(module))
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
    if source is None and module in sys.modules:
        source = _imported(function, module)
    if source is None:
        raise SuiteError(f"{name} has no Python source file; define it in the suite's file or in one beside it")
    _collected.setdefault(source.sha256, source)
    return {"function": name, "sha256": source.sha256}


def _imported(function: Callable[..., Any], module: str) -> Source | None:
    """Return the file of a function that is not in a suite's own: beside it, or anywhere else that Python imports."""
    found = beside.origin(module)
    if found is not None:
        folder, one = found
        return Source.of(folder / one.path, one.text, folder=folder, package=beside.package_of(one))
    try:
        path = Path(inspect.getsourcefile(function) or "").resolve()
        text = path.read_text(encoding="utf-8")
    except (TypeError, OSError):
        return None
    package = getattr(sys.modules[module], "__package__", None) or ""
    parts = package.split(".") if package else []
    if not parts or path.parent.parts[-len(parts) :] != tuple(parts):
        return Source.of(path, text)
    return Source.of(path, text, folder=path.parents[len(parts)], package=package)


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
