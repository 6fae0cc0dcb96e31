"""What a site needs and what a job asks for, from a TOML file and the command line; docs/slurm.md has all keys."""

from __future__ import annotations

import math
import os
import shlex
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

from pydantic import Field, PrivateAttr

from harness.domain.component import Declaration, did_you_mean
from harness.domain.duration import duration
from harness.domain.errors import SuiteError
from harness.slurm.times import time_limit
from harness.slurm.values import (
    Count,
    Duration,
    Environment,
    Flag,
    Folder,
    FurtherOptions,
    Gpus,
    Memory,
    ShellLines,
    Text,
    Texts,
    Time,
    Warn,
    Words,
)

_SITE: Final = Path("/etc/harness/slurm")  # what an administrator gives to all users
_DEFAULT: Final = "default"
_EARLY_S: Final = 60  # Slurm sends the warning up to so much before its time


class Profile(Declaration):
    """What is asked of Slurm, and what has to be done on the nodes before the harness can run there."""

    called: ClassVar[str] = "profile"

    partition: Text | None = None
    account: Text | None = None
    qos: Text | None = None
    constraint: Text | None = None
    reservation: Text | None = None
    nodes: Count = 1
    time: Time | None = None  # in Slurm's form
    gpus_per_node: Gpus | None = None
    cpus_per_node: Count | None = None
    memory_per_node: Memory | None = None
    exclusive: Flag | None = None  # see whole_nodes
    modules: Texts = ()
    environment: Environment = Field(default_factory=dict)
    container: Words = ()
    command: Text | None = None
    setup: ShellLines = ()
    results: Folder | None = None
    warn: Warn = "2m"
    requeue: Flag = True
    most_requeues: Annotated[int, Field(strict=True, ge=0)] = 100
    expect_within: Duration = "5m"
    sbatch: FurtherOptions = ()

    _name: str = PrivateAttr(default=_DEFAULT)
    _source: Path | None = PrivateAttr(default=None)

    @property
    def name(self) -> str:
        """What it is called in messages: its file's name without the ending."""
        return self._name

    @property
    def source(self) -> Path | None:
        """The file it was read from, where there is one."""
        return self._source

    @property
    def whole_nodes(self) -> bool:
        """Whether no other job runs on its nodes."""
        return self.cpus_per_node is None if self.exclusive is None else self.exclusive

    @property
    def gpus(self) -> int:
        """How many GPUs of each node are asked for, of whatever type; 0 where none are named."""
        return int(str(self.gpus_per_node or 0).rpartition(":")[2])

    @property
    def warn_s(self) -> int:
        """Whole seconds before the end at which the run is told, as --signal takes them."""
        return math.ceil(duration(self.warn))

    def named(self, name: str, source: Path | None) -> Profile:
        """Return the same under this name, read from this file."""
        copy = self.model_copy()
        copy._name, copy._source = name, source
        return copy


# Keys whose option of `harness submit` is not called as the key is.
_OPTIONS: Final = {"memory_per_node": "--memory", "modules": "--module", "environment": "--env"}
_APPENDED: Final = ("modules", "setup", "sbatch")


def option(key: str) -> str:
    """Return the option of ``harness submit`` that gives this key."""
    return _OPTIONS.get(key, "--" + key.replace("_", "-"))


def load_profile(name: str | None, *, cwd: Path = Path()) -> Profile:
    """Return the profile of this name; a text with a slash, or that ends in .toml, is a path.

    Names are looked for in ``slurm/`` of `cwd`, then in the user's, then in the site's folder. None is the one called
    "default" where there is one, else a profile with nothing set.

    Raises:
        SuiteError: where there is no such profile, naming the places and the profiles there are; or for what is wrong
            with its file, naming the file, the key and the value.
    """
    if name is not None and ("/" in name or name.endswith(".toml")):
        return _read(cwd / name)
    places = _places(cwd)
    for place in places:
        path = place / f"{name or _DEFAULT}.toml"
        if path.is_file():
            return _read(path)
    if name is None:
        return Profile()
    there = {path.stem: path for place in reversed(places) for path in sorted(place.glob("*.toml"))}
    are = f"there are {', '.join(f'{stem} ({there[stem]})' for stem in sorted(there))}" if there else "there are none"
    raise SuiteError(
        f"--profile: there is no profile {name!r};{did_you_mean(name, there)} looked in "
        f"{', '.join(map(str, places))}, where {are}; write one, or give the path of a file"
    )


def _places(cwd: Path) -> tuple[Path, Path, Path]:
    own = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return cwd / "slurm", own / "harness" / "slurm", _SITE


def _read(path: Path) -> Profile:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SuiteError(f"--profile {path}: cannot be read ({error.strerror}); give a TOML file") from None
    except ValueError as error:  # no TOML, no UTF-8, or a path with NUL
        raise SuiteError(f'{path}: is no TOML ({error}); write lines such as partition = "gpu"') from None
    for key in content:
        if key not in Profile.model_fields:
            hint = did_you_mean(key, Profile.model_fields)
            raise SuiteError(f"{path}: unknown key {key!r};{hint} the keys are: {', '.join(Profile.model_fields)}")
    try:
        return Profile(**content).named(path.stem, path)
    except SuiteError as error:
        raise SuiteError(f"{path}: {str(error).removeprefix('profile: ')}") from None


def with_overrides(profile: Profile, **given: Any) -> Profile:
    """Return the profile with what the command line gives, by key; None is not given.

    Lists are appended; `environment` is a table or texts ``NAME=VALUE``, and is merged.

    Raises:
        SuiteError: naming the option and its value; or for values that do not go together.
    """
    values = {key: getattr(profile, key) for key in profile.model_fields_set}
    for key, value in given.items():
        if value is None:
            continue
        new = _checked(key, value)
        before = getattr(profile, key)
        if key in _APPENDED:
            new = (*before, *new)
        elif key == "environment":
            new = before | new
        values[key] = new
    made = Profile(**values).named(profile.name, profile.source)
    _expect_to_go_together(made)
    return made


def directives(profile: Profile) -> list[str]:
    """Return the options for sbatch that the profile stands for, ``--option=value`` each and not quoted."""
    named = ("partition", "account", "qos", "constraint", "reservation")
    words = [f"--{key}={getattr(profile, key)}" for key in named if getattr(profile, key) is not None]
    words += [f"--nodes={profile.nodes}", "--ntasks-per-node=1"]
    if profile.cpus_per_node is not None:
        words.append(f"--cpus-per-task={profile.cpus_per_node}")
    if profile.whole_nodes:
        words.append("--exclusive")
    if profile.gpus_per_node:
        words.append(f"--gres=gpu:{profile.gpus_per_node}")
    # Slurm gives an exclusive job all processors and GPUs of a node, but its memory only when asked.
    memory = profile.memory_per_node or ("0" if profile.whole_nodes else None)
    if memory is not None:
        words.append(f"--mem={memory}")
    if profile.time is not None:
        words.append(f"--time={profile.time}")
    return [*words, *profile.sbatch]


def _checked(key: str, value: Any) -> Any:
    """Return a value of the command line as the profile holds it."""
    try:
        if key == "environment" and not isinstance(value, Mapping):
            value = _pairs(value)
        return getattr(Profile(**{key: value}), key)
    except SuiteError as error:
        # The values of variables may be secrets.
        shown = "" if key == "environment" else f" {_shown(value)}"
        reason = str(error).removeprefix("profile: ").removeprefix("environment: ").removeprefix(f"{key} ")
        raise SuiteError(f"{option(key)}{shown}: {reason}") from None


def _shown(value: Any) -> str:
    text = shlex.join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text if text and text.isprintable() else repr(text)


def _pairs(texts: Iterable[str]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise SuiteError(f"{text!r} sets no variable; give NAME=VALUE")
        pairs[name] = value
    return pairs


def _expect_to_go_together(profile: Profile) -> None:
    if not profile.whole_nodes and profile.cpus_per_node is None:
        raise SuiteError(
            f"profile {profile.name!r}: beside other jobs (exclusive = false, --shared) Slurm would grant one "
            "processor a node; say how many, with --cpus-per-node or the key cpus_per_node"
        )
    limit_s = None if profile.time is None else time_limit(profile.time)
    if limit_s is not None and limit_s <= profile.warn_s + _EARLY_S:
        early = "" if limit_s <= profile.warn_s else " and the minute by which Slurm may warn early"
        where = "" if profile.source is None else f"profile {profile.name!r}: "
        raise SuiteError(
            f"{where}the time {profile.time} is not more than warn, {profile.warn}{early}: the run would "
            "be told to end as soon as it begins; ask for more --time, or give a shorter --warn"
        )
