"""The modules that lie beside a Python file: found in its text, carried with it, imported under names of their own.

A file that says ``from helpers import net`` means the ``helpers.py`` in its folder, as it would as a script. Which
modules that are, directly or through one another, is read from the texts, and does not depend on what has been imported
by then. They are imported as ``<root>.helpers``, where the root is the file's own: so two files may mean two different
``helpers.py`` in one process, none of them gets in the way of an installed package that imports a module of the same
name, and a node needs no copy on its disk.

The standard library and this package are never meant. What is imported by a name made at run time is not found.
"""

from __future__ import annotations

import ast
import builtins
import linecache
import re
import sys
import tokenize
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, Final

from harness.domain.errors import SuiteError

MOST_BYTES: Final = 4 << 20  # of text, with one file
_ROOT: Final = "_harness_beside_"
_NEVER: Final = frozenset({*sys.stdlib_module_names, "harness"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """A file as text. Of a folder without an ``__init__.py`` that serves as a package, `path` is the folder's."""

    name: str  # dotted, as it is imported; of what is no module, its path
    path: str  # below the folder of the file that it goes with
    text: str
    package: bool = False


def find(text: str, *, file: Path, folder: Path, package: str = "") -> tuple[Beside, ...]:
    """Return the modules below `folder` that the `text` of a `file` imports, and those that they import, by name.

    `package` is the dotted name of the package that the file is a part of, "" where it is none.

    Raises:
        SuiteError: when their texts are larger than `MOST_BYTES`.
    """
    found: dict[str, Beside] = {}
    waiting = [(text, file, package)]
    while waiting:
        text, file, package = waiting.pop()
        for name in _imported(text, package):
            for one in _look(name, folder, importer=file):
                if one.name not in found:
                    found[one.name] = one
                    waiting.append((one.text, folder / one.path, package_of(one)))
    return bounded(file, [found[name] for name in sorted(found)])


def package_of(one: Beside) -> str:
    """Return the dotted name of the package that relative imports in a module start from."""
    return one.name if one.package else one.name.rpartition(".")[0]


def bounded(file: Path, found: Sequence[Beside]) -> tuple[Beside, ...]:
    """Return what goes with a file; raise SuiteError if that is too much."""
    size = sum(len(one.text) for one in found)
    if size > MOST_BYTES:
        raise SuiteError(
            f"{file}: uses {size / (1 << 20):.1f} MiB of files from its folder, and at most {MOST_BYTES >> 20} MiB "
            "travel to the nodes; install them there as a package"
        )
    return tuple(found)


@lru_cache(maxsize=256)
def _imported(text: str, package: str) -> tuple[str, ...]:
    """Return the dotted names of modules that a text may import; ``from a import b`` means a, and perhaps a.b."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return ()  # for whoever runs it to tell
    names: dict[str, None] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(dict.fromkeys(alias.name for alias in node.names))
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".") if package else []
            if node.level > len(parts):
                continue
            base = parts[: len(parts) - node.level + 1] if node.level else []
            base += node.module.split(".") if node.module else []
            for end in ([], *([alias.name] for alias in node.names)):
                names[".".join([*base, *end])] = None
    return tuple(name for name in names if name.partition(".")[0] not in _NEVER)


def _look(name: str, folder: Path, *, importer: Path) -> list[Beside]:
    """Return the packages on the way to a module and the module, as far as they lie in `folder`.

    A file does not mean itself: a ``numpy.py`` that says ``import numpy`` wants the installed one.
    """
    chain: list[Beside] = []
    parts = name.split(".")
    for length in range(1, len(parts) + 1):
        place = folder.joinpath(*parts[:length])
        inner, outer = place / "__init__.py", place.with_name(f"{place.name}.py")
        file = inner if inner.is_file() else outer
        dotted = ".".join(parts[:length])
        if file.is_file() and file != importer:
            text = _read(file)
            if text is None:
                break
            path = file.relative_to(folder).as_posix()
            chain.append(Beside(name=dotted, path=path, text=text, package=file == inner))
        elif place.is_dir():
            chain.append(Beside(name=dotted, path="/".join(parts[:length]), text="", package=True))
        else:
            break
    while chain and not chain[-1].path.endswith(".py"):  # a mere folder, with nothing in it that is meant
        chain.pop()
    return chain


def _read(file: Path) -> str | None:
    """Return the text of a Python file; None where it is none, which is for its import to tell."""
    try:
        with tokenize.open(file) as content:
            return content.read()
    except (OSError, SyntaxError, UnicodeDecodeError):
        return None


# Importing them. ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Tree:
    """The modules of one root."""

    folder: Path
    modules: Mapping[str, Beside]
    builtins: Mapping[str, Any]


_trees: dict[str, _Tree] = {}


def root_of(sha256: str) -> str:
    """Return the name under which the modules beside a file are imported."""
    return _ROOT + sha256[:16]


def offer(root: str, folder: Path, modules: Sequence[Beside]) -> Mapping[str, Any]:
    """Make modules importable below `root`; return the builtins of a text that is to import them by their own names."""
    if root not in _trees:
        if not _trees:
            sys.meta_path.insert(0, _Finder())
        by_name = {one.name: one for one in modules}
        own = {**vars(builtins), "__import__": _importing(root, {name.partition(".")[0] for name in by_name})}
        _trees[root] = _Tree(folder=folder, modules=by_name, builtins=own)
        package = types.ModuleType(root)
        package.__path__ = []
        sys.modules[root] = package
    return _trees[root].builtins


def origin(module: str) -> tuple[Path, Beside] | None:
    """Return the folder and the text of a module that was imported below a root; None of any other."""
    root, _, name = module.partition(".")
    tree = _trees.get(root)
    return None if tree is None or name not in tree.modules else (tree.folder, tree.modules[name])


def readable(text: str) -> str:
    """Return a message with the names of modules as the texts say them."""
    return re.sub(rf"{_ROOT}[0-9a-f]{{16}}\.", "", text)


def show_lines(path: str, text: str) -> None:
    """Let tracebacks, and whoever asks for a function's source, find the text that ran, wherever its file is."""
    linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)


def _importing(root: str, names: set[str]) -> Any:
    """Return the ``__import__`` of texts for which these top-level names are those below `root`."""
    ordinary = builtins.__import__

    def importing(
        name: str,
        globals: Mapping[str, Any] | None = None,  # noqa: A002
        locals: Mapping[str, Any] | None = None,  # noqa: A002
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> types.ModuleType:
        top = name.partition(".")[0]
        try:
            if level or top not in names:
                return ordinary(name, globals, locals, fromlist or (), level)
            module = ordinary(f"{root}.{name}", globals, locals, fromlist or (), 0)
        except ModuleNotFoundError as error:
            if error.name is None or not error.name.startswith(root):
                raise
            raise ModuleNotFoundError(readable(str(error)), name=readable(error.name)) from None
        return module if fromlist else sys.modules[f"{root}.{top}"]

    return importing


class _Finder(MetaPathFinder):
    """Finds what was offered. What lies in a package's folder besides, such as compiled modules, others find there."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        found = origin(fullname)
        if found is None:
            return None
        folder, one = found
        place = folder / one.path
        loader = _Loader(one, str(place), _trees[fullname.partition(".")[0]].builtins)
        spec = ModuleSpec(fullname, loader, origin=str(place), is_package=one.package)
        spec.has_location = place.suffix == ".py"
        if one.package:
            spec.submodule_search_locations = [str(place.parent if spec.has_location else place)]
        return spec


class _Loader(Loader):
    def __init__(self, one: Beside, path: str, own: Mapping[str, Any]) -> None:
        self._one = one
        self._path = path
        self._builtins = own

    def exec_module(self, module: types.ModuleType) -> None:
        vars(module)["__builtins__"] = self._builtins
        show_lines(self._path, self._one.text)
        exec(compile(self._one.text, self._path, "exec", dont_inherit=True), vars(module))


# The files of a program. ----------------------------------------------------------------------------------------------

_NAMED: Final = re.compile(r"(?<!\{)\{suite_dir\}(?!\})(?:/([^{}]*))?(\{)?")


def named_files(words: Sequence[str]) -> list[str]:
    """Return the paths that stand behind ``{suite_dir}/`` in a command.

    Raises:
        SuiteError: where no path stands there, or one that depends on the trial.
    """
    named = [(word, found) for word in words for found in _NAMED.finditer(word)]
    for word, found in named:
        if not found[1] or found[2]:
            raise SuiteError(f"program: {word!r}: behind {{suite_dir}}/ comes the name of a file, such as train.py")
    return list(dict.fromkeys(found[1] for _, found in named))


def files(named: Sequence[str], folder: Path) -> Iterator[Beside]:
    """Yield files that a program is given by their paths below `folder`, and the modules that Python scripts import.

    Raises:
        SuiteError: for a path that leads out of the folder, and a file that is not there or no text.
    """
    for path in dict.fromkeys(named):
        file = folder / path
        if Path(path).is_absolute() or ".." in Path(path).parts or not path.strip():
            raise SuiteError(f"program: {{suite_dir}}/{path} is not a file below the suite's folder, {folder}")
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = (isinstance(error, OSError) and error.strerror) or "it is no text in UTF-8"
            raise SuiteError(f"program: {file} cannot travel to the nodes ({why})") from None
        yield Beside(name=path, path=path, text=text)
        if file.suffix == ".py":
            start = Path(path).parent
            for one in find(text, file=file, folder=file.parent):
                if one.path.endswith(".py"):
                    below = (start / one.path).as_posix()
                    yield Beside(name=below, path=below, text=one.text)
