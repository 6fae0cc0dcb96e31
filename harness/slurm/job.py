"""A job request → the script that sbatch takes. Pure: touches neither disk nor Slurm."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

from harness.domain.errors import SetupError
from harness.slurm.jobfile import FOLDER
from harness.slurm.profile import Profile, directives
from harness.slurm.quoting import in_shell, output_path, quoted, unwritable

_TEMPLATE: Final = "job.sh.j2"
_PLAIN: Final = re.compile(r"[\w./:@%+-]+", re.ASCII)  # needs no quotes in a line for sbatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is asked of Slurm for one run: an allocation, or an array of them with a shard of the run each."""

    version: str  # of the harness
    profile: Profile
    name: str
    suite: str
    suite_file: str  # as given: the job runs in `cwd`
    run_id: str
    folder: Path  # the run's, absolute
    cwd: Path
    command: Sequence[str]  # the words that call the harness on a node
    run_words: Sequence[str]  # the options of `harness run`
    shards: int | None = None
    array: str | None = None  # the shards to run, in Slurm's form, as "0-99%10"

    def __post_init__(self) -> None:
        for what, text in (("the job's name", self.name), ("the results folder", str(self.folder))):
            _expect_plain(what, text)
        _expect_plain("the working directory", str(self.cwd))
        _expect_plain("the suite's path", self.suite_file)
        for word in self.run_words:
            _expect_plain("an option of the run", word)

    @property
    def log(self) -> str:
        """The name of the file with what the script and the run say, as sbatch takes it."""
        return "job.log" if self.shards is None else "job-%a.log"

    def render(self) -> str:
        """Return the script."""
        from jinja2 import Environment, StrictUndefined

        environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
        environment.filters |= {"sh": shlex.quote, "words": in_shell}
        template = environment.from_string(resources.files("harness.slurm").joinpath(_TEMPLATE).read_text("utf-8"))
        return template.render(
            version=self.version,
            run_id=self.run_id,
            suite=self.suite,
            directives=[_line(word) for word in self._directives()],
            folder=str(self.folder),
            command=list(self.command),
            suite_file=self.suite_file,
            run_words=list(self.run_words),
            shards=self.shards,
            modules=self.profile.modules,
            environment=self.profile.environment,
            setup=self.profile.setup,
            expect_within=self.profile.expect_within,
            requeue=self.profile.requeue,
            most_requeues=self.profile.most_requeues,
        )

    def _directives(self) -> list[str]:
        return [
            f"--job-name={self.name}",
            f"--chdir={self.cwd}",
            f"--output={output_path(str(self.folder / FOLDER), self.log)}",
            "--open-mode=append",
            *directives(self.profile),
            *([f"--array={self.array}"] if self.array is not None else []),
            f"--signal=B:TERM@{self.profile.warn_s}",
            "--requeue" if self.profile.requeue else "--no-requeue",
            "--no-kill",
        ]


def _expect_plain(what: str, text: str) -> None:
    """Raise for a text that no line of a script can hold."""
    if unwritable(text) is not None:
        raise SetupError(f"{what} {text!r}: newlines and control characters cannot be told to Slurm; choose another")


def _line(word: str) -> str:
    """Return an option as a ``#SBATCH`` line has it."""
    option, equals, value = word.partition("=")
    plain = _PLAIN.fullmatch(value) is not None
    return f"{option}={value if plain else quoted(value)}" if equals else option
