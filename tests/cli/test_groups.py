"""Options that several commands share: declared once, taken as one value, and said again to the job that runs them."""

from __future__ import annotations

from dataclasses import fields

import pytest
import typer

from harness.cli.groups import Asked, spread, words

EVERY = Asked(
    overrides=["a=1", "b=2,3"], where=["seed == 0"], small=True, workers=2, retry="lost", max_fail=3, budget="1h",
    patience="2m", skip_bad_nodes=True, telemetry=1.5, calibrate=False,
)  # fmt: skip


def read(*said: str) -> tuple[Asked, int]:
    found = []

    @spread
    def command(asked: Asked, other: int = 1) -> None:
        found.append((asked, other))

    app = typer.Typer()
    app.command()(command)
    app(list(said), standalone_mode=False)
    return found[0]


@pytest.mark.parametrize("asked", [Asked(), EVERY, Asked(where=["a < 1", "b"], calibrate=False)])
def test_a_command_reads_again_what_is_said_of_a_group(asked: Asked) -> None:
    assert read(*words(asked.given())) == (asked, 1)


def test_no_option_is_forgotten_when_they_are_said_again() -> None:
    left_out = Asked()
    assert all(getattr(EVERY, one.name) != getattr(left_out, one.name) for one in fields(Asked))
    assert len(EVERY.given()) == len(fields(Asked))
    assert left_out.given() == {}


def test_a_group_stands_beside_options_of_the_commands_own() -> None:
    assert read("--other", "3", "--small") == (Asked(small=True), 3)
