from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from answer.recorded import record

from harness.answer.compare import compare
from harness.terminal import compare as terminal

Say = Callable[..., Any]


def told(say: Say, *words: object) -> dict[str, Any]:
    said = say("compare", *words, "--json")
    assert said.code in (0, 1), said.err
    document: dict[str, Any] = json.loads(said.out)
    return document


def test_a_slower_run_is_called_slower_with_its_ratio_in_the_first_line(tmp_path: Path, say: Say) -> None:
    a, b = record(tmp_path, "a"), record(tmp_path, "b", slower=1.1, seed=1)
    said = say("compare", a, b, "--results", tmp_path)
    assert said.code == 0
    first, _, rest = said.out.partition("\n")
    assert first.startswith("B is 10.")
    assert "slower (ratio 1.10" in first
    assert ", 98 % interval 1.09 to 1.11; " in first
    assert "; 2 of 2 settings slower)" in first
    assert f"A  {a}: suite/a, 20 trials, a CPU × 1 core" in rest
    assert "no noise floor of this figure is known for here" in rest
    rows = [line.split() for line in rest.splitlines() if line.startswith("batch_size=")]
    assert [row[0] for row in rows] == ["batch_size=16", "batch_size=32"]
    assert all(row[-1] == "slower" for row in rows)


def test_equal_runs_show_no_difference(tmp_path: Path, say: Say) -> None:
    record(tmp_path, "a", floor=0.01)
    record(tmp_path, "b", seed=1)
    said = say("compare", "a", "b", "--results", tmp_path)
    assert said.out.startswith("No difference shown (ratio ")
    assert "; noise floor 1.0" in said.out.splitlines()[0]
    assert "noise floor of here, 2026-01-02 (10 repeats, 1 neighbour)" in said.out


def test_a_run_with_itself_is_told_as_the_same_trials(tmp_path: Path, say: Say) -> None:
    run = record(tmp_path, "a", repeats=2)
    said = say("compare", run, "a", "--results", tmp_path)
    assert said.out.startswith("A and B are the same 4 trials: each ratio is 1 exactly, and there is nothing to test\n")
    (figure,) = told(say, run, run)["figures"]
    assert [one["verdict"] for one in figure["settings"]] == ["the same trials"] * 2


def test_a_copy_of_a_run_is_another_run(tmp_path: Path, say: Say) -> None:
    run = record(tmp_path / "one", "a", repeats=5)
    copy = shutil.copytree(run, tmp_path / "two" / "suite" / "a")
    found = told(say, run, copy)
    assert any("A and B have the run a in two folders" in note for note in found["notes"])
    assert found["figures"][0]["overall"]["effect"] == 1.0


def test_arms_of_one_run_are_compared_block_by_block(tmp_path: Path, say: Say) -> None:
    record(tmp_path, "a", arms=({"label": "A"}, {"label": "B"}), arm_slower=1.1)
    found = told(say, "arm == 'label=A'", "label == 'B'", "--in", "a", "--results", tmp_path)
    (figure,) = found["figures"]
    assert [one["pairs"] for one in figure["settings"]] == ["block", "block"]
    assert [one["verdict"] for one in figure["settings"]] == ["slower", "slower"]
    assert figure["settings"][0]["arms"] == ["label=A", "label=B"]


def test_runs_of_a_suite_without_a_common_setting_are_told_in_what_they_differ(tmp_path: Path, say: Say) -> None:
    record(tmp_path, "a", repeats=2)
    record(tmp_path, "b", repeats=2, arms=({"shuffle": False},))
    said = say("compare", "a", "b", "--results", tmp_path)
    assert said.code == 2
    assert "They differ in shuffle (not said in A, false in B). `harness compare` holds" in said.err


def test_commits_are_compared_by_their_beginning(tmp_path: Path, say: Say) -> None:
    record(tmp_path, "a", commit="1a2b3c4d" * 5)
    record(tmp_path, "b", commit="ffff0000" * 5, slower=0.8, seed=1)
    record(tmp_path, "c")  # not in a repository
    found = told(say, "'1a2b3c4' in commit", f"commit == '{'ffff0000' * 5}'", "--results", tmp_path)
    assert found["a"]["commits"] == ["1a2b3c4d" * 5]
    assert found["figures"][0]["conclusion"].startswith("B is ")
    assert "faster" in found["figures"][0]["conclusion"]


def test_an_expression_that_holds_for_nothing_says_what_there_is(tmp_path: Path, say: Say) -> None:
    record(tmp_path, "a", repeats=2, commit="1a2b3c4d" * 5)
    said = say("compare", "commit == '1a2b3c4'", "a", "--results", tmp_path)
    assert said.code == 2
    assert said.err.startswith(
        "harness: A: \"commit == '1a2b3c4'\" holds for none of 4 trials of 1 run: there commit is"
    )
    assert f"{'1a2b3c4d' * 5} (4 trials)" in said.err
    assert "by \"'1a2b3c4' in commit\"" in said.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("nothing", "a"), "A: RESULTS: there is no run or suite 'nothing'; "),
        (("a", "cpus = 2"), "B: RESULTS: there is no run or suite 'cpus = 2'; "),
        (("a", "cpuss == 2"), "unknown path 'cpuss'; did you mean 'cpus'"),
        (("a", "b", "--figure", "train"), "'train': no such quantity is recorded; did you mean"),
        (("a", "b", "--mix", "engin"), "--mix 'engin': this is not among what can be mixed; did you mean 'engine'"),
        (
            ("a", "b", "--fail-over", "5"),
            "--fail-over '5': expected a share such as 5% or 0.05; did you mean 5%?",
        ),
        (("a", "b", "--json", "--markdown"), "--markdown and --json: choose one of them"),
        (("a", "b", "--where", "seed > 99"), "A: RESULTS/suite/a: --where 'seed > 99' selects none of 4 trials"),
        (("a", "b", "--discard", "nois"), "there is no warning 'nois'"),
        (
            ("a", "other"),
            "A and B have no setting in common: A has batch_size=16, batch_size=32 of suite; ",
        ),
    ],
)
def test_what_cannot_be_compared_is_one_message_and_exit_code_2(
    tmp_path: Path, say: Say, words: tuple[str, ...], told: str
) -> None:
    record(tmp_path, "a", repeats=2)
    record(tmp_path, "b", repeats=2, seed=1)
    record(tmp_path, "c", suite="other", batch_sizes=[7], repeats=2)
    said = say("compare", *words, "--results", tmp_path)
    assert said.code == 2
    assert told.replace("RESULTS", str(tmp_path)) in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""


@pytest.mark.parametrize(
    ("options", "mix", "told"),
    [
        ({"arms": [{"precision": "mixed_bfloat16"}]}, "precision", "precision: float32 in A, mixed_bfloat16 in B"),
        ({"engine": "graph"}, "engine", "engine: xla in A, graph in B (2 of 2 settings)"),
        ({"neighbours": 0}, "all", "neighbours: beside others in A, alone in B"),
    ],
)
def test_unlike_runs_are_refused_unless_told(
    tmp_path: Path, say: Say, options: dict[str, Any], mix: str, told: str
) -> None:
    a, b = record(tmp_path, "a"), record(tmp_path, "b", slower=0.5, seed=1, **options)
    said = say("compare", a, b)
    assert said.code == 2
    assert told in said.err
    allowed = say("compare", a, b, "--mix", mix)
    assert allowed.code == 0
    assert "faster" in allowed.out.splitlines()[0]
    assert f"mixed, as allowed: {told}" in allowed.out


def test_a_gate_fails_where_b_is_worse_by_more_and_called_different(tmp_path: Path, say: Say) -> None:
    a, b = record(tmp_path, "a"), record(tmp_path, "b", slower={16: 1.1}, seed=1)
    said = say("compare", a, b, "--fail-over", "7%")
    assert said.code == 1
    assert said.err.startswith("--fail-over 7%: train_s, batch_size=16: worse by 1")
    assert "together" not in said.err  # which are worse by some 5 %
    together = say("compare", a, b, "--fail-over", "0.02").err
    assert "train_s, 2 settings together: worse by" in together
    assert say("compare", a, b, "--fail-over", "15%").code == 0
    assert say("compare", b, a, "--fail-over", "0%").code == 0
    rates = say("compare", a, b, "--figure", "samples_per_s", "--fail-over", "7%")
    assert (rates.code, rates.err) == (1, said.err.replace("train_s", "samples_per_s"))


def test_a_gate_does_not_fail_for_what_may_be_chance(tmp_path: Path, say: Say) -> None:
    a, b = record(tmp_path, "a", spread=0.3), record(tmp_path, "b", spread=0.3, slower=1.1, seed=1)
    said = say("compare", a, b, "--fail-over", "5%")
    assert said.code == 0
    assert said.err.startswith(
        "--fail-over 5%: passed, but with too few repeats to tell in 2 of 2 settings of train_s\n"
    )
    assert said.out.startswith("Cannot tell: too few repeats")


def test_a_gate_fails_where_nothing_of_a_setting_completed_in_b(tmp_path: Path, say: Say) -> None:
    a, b = record(tmp_path, "a"), record(tmp_path, "b", status={32: "failed"}, seed=1)
    said = say("compare", a, b, "--fail-over", "50%")
    assert (said.code, said.err) == (1, "--fail-over 50%: train_s, batch_size=32: none of 10 trials of B has it\n")
    assert "10 of 20 trials of B did not complete (10 failed)" in said.out
    assert "10 of 20 trials of B have no train_s" in said.out


def test_several_figures_each_have_a_conclusion_and_a_table(tmp_path: Path, say: Say) -> None:
    a, b = record(tmp_path, "a"), record(tmp_path, "b", slower=1.1, accuracy=0.85, seed=1)
    words = ("--figure", "train_s,val_accuracy", "--figure", "time_to_target")
    said = say("compare", a, b, *words)
    first, second, third = said.out.splitlines()[:3]
    assert first.startswith("train_s: B is 1")
    assert second.startswith(
        "val_accuracy: B is 0.0500 lower, worse (difference -0.05, 98 % interval -0.05 to -0.05; 2 of 2"
    )
    assert third.startswith("time_to_target: B is ")
    assert "time_to_target (val_accuracy ≥ 0.8; a miss counts as infinite)" in said.out
    found = told(say, a, b, *words)
    assert [one["compared_as"] for one in found["figures"]] == ["ratio", "difference", "ratio"]


def test_another_target_counts_and_misses_are_told(tmp_path: Path, say: Say) -> None:
    a, b = record(tmp_path, "a"), record(tmp_path, "b", accuracy=0.89, target=None, seed=1)
    different = say("compare", a, b, "--figure", "time_to_target")
    assert different.code == 2
    assert "A and B have different targets (A val_accuracy ≥ 0.8 and B none)" in different.err
    found = told(say, a, b, "--figure", "time_to_target", "--target", "0.899")
    (figure,) = found["figures"]
    assert [one["reached"]["b"] for one in figure["settings"]] == [[1, 10], [1, 10]]
    assert [one["verdict"] for one in figure["settings"]] == ["reached less often"] * 2
    assert figure["settings"][0]["medians"][1] == "Infinity"
    assert any("18 trials of B missed the target" in note for note in found["notes"])


def test_what_else_differs_is_told_but_not_refused(tmp_path: Path, say: Say) -> None:
    a = record(tmp_path, "a")
    b = record(
        tmp_path, "b", batch_sizes=[32, 64], cpu_model="another CPU", version="0.2.0", neighbours=[0] * 2 + [1] * 8
    )
    found = told(say, a, b)
    assert found["only_a"] == ["batch_size=16"]
    assert found["only_b"] == ["batch_size=64"]
    notes = "\n".join(found["notes"])
    assert "harness differs: 0.1.0 in A, 0.2.0 in B" in notes
    assert "hardware differs: a CPU × 1 core in A, another CPU × 1 core in B" in notes
    assert "neighbours: 2 of 20 trials of B ran alone although most did not" in notes


def test_markdown_is_a_table_for_a_pull_request(tmp_path: Path, say: Say) -> None:
    a, b = record(tmp_path, "a"), record(tmp_path, "b", slower=1.1, seed=1)
    said = say("compare", a, b, "--markdown")
    lines = said.out.splitlines()
    assert lines[0].startswith("**B is 1")
    assert lines[0].endswith("slower)**")
    start = next(n for n, line in enumerate(lines) if line.startswith("| setting |"))
    assert lines[start + 1].startswith("|---|---:|")
    assert all(line.count("|") == lines[start].count("|") for line in lines[start : start + 5])
    assert lines[start + 4].startswith("| all 2 |")


def test_the_latest_run_of_a_suite_is_meant_by_its_name(tmp_path: Path, say: Say) -> None:
    record(tmp_path, "a", repeats=2)
    record(tmp_path, "b", repeats=2, seed=1)
    assert told(say, "a", "suite", "--results", tmp_path)["b"]["runs"] == ["b"]
    assert told(say, tmp_path / "suite", "cpus == 1", "--results", tmp_path)["a"]["runs"] == ["a", "b"]


def test_two_settings_are_for_a_report_to_compare(tmp_path: Path, say: Say) -> None:
    record(tmp_path, "a", repeats=2)
    said = say("compare", "batch_size == 16", "batch_size == 32", "--results", tmp_path)
    assert said.code == 2
    assert "A has batch_size=16 of suite; B has batch_size=32 of suite. " in said.err
    assert "`harness report RUN` tells in its first sentence" in said.err


def test_a_target_that_nothing_reached_is_not_told_as_too_few_repeats(tmp_path: Path, say: Say) -> None:
    a, b = record(tmp_path, "a"), record(tmp_path, "b", seed=1)
    words = (a, b, "--figure", "time_to_target", "--target", "0.99", "--fail-over", "5%")
    said = say("compare", *words)
    assert said.out.startswith(
        "time_to_target: No trial of A or B reached val_accuracy ≥ 0.99 "
        "(reached by none in 2 of 2 settings; reached by 0/20 of A and 0/20 of B)\n"
    )
    assert (said.code, said.err) == (0, "")
    assert [one["verdict"] for one in told(say, *words)["figures"][0]["settings"]] == ["reached by none"] * 2


def test_a_target_of_a_metric_that_was_not_recorded_is_refused(tmp_path: Path, say: Say) -> None:
    a = record(tmp_path, "a", repeats=2)
    said = say("compare", a, a, "--figure", "time_to_target", "--target", "val_acuracy >= 0.5")
    assert said.code == 2
    assert "--target 'val_acuracy >= 0.5': no metric 'val_acuracy' is recorded; did you mean 'val_accuracy'" in said.err


def test_settings_that_differ_otherwise_than_all_together_come_first(tmp_path: Path, say: Say) -> None:
    a, b = record(tmp_path, "a"), record(tmp_path, "b", slower={16: 1.2, 32: 1 / 1.2}, seed=1)
    said = say("compare", a, b)
    assert said.out.startswith("1 of 2 settings slower, 1 faster; all together: No difference shown (ratio ")


@pytest.mark.parametrize(
    ("slower", "told"),
    [
        (0.8, "B is faster: it takes 20.1 % less time (ratio 0.79"),
        (0.25, "B is faster, 4 times as fast (ratio 0.250"),
        (4.0, "B is slower: it takes 4 times as long (ratio 3.9"),
    ],
)
def test_how_much_quicker_is_told_without_doubt(tmp_path: Path, say: Say, slower: float, told: str) -> None:
    a, b = record(tmp_path, "a", spread=0.001), record(tmp_path, "b", slower=slower * 0.999, spread=0.001, seed=1)
    assert say("compare", a, b).out.startswith(told)


def test_a_name_cannot_steer_the_terminal_or_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "a<script>|'\",`\n\x1b[2J" + "x" * 200
    found = compare(*(str(record(tmp_path, one, seed=n)) for n, one in enumerate("ab")))
    found = replace(found, labels=dict.fromkeys(found.labels, name))
    terminal.print_compared(found)
    assert "\x1b" not in capsys.readouterr().out
    page = terminal.markdown(found)
    assert "<script>" not in page
    assert "\x1b" not in page
    assert len({line.count("|") for line in page.splitlines() if line.startswith("|")}) == 1


@pytest.mark.parametrize("share", ["150%", "5 %", "0.05", "0"])
def test_a_share_is_given_in_per_cent_or_below_one(tmp_path: Path, say: Say, share: str) -> None:
    a = record(tmp_path, "a", repeats=2)
    assert say("compare", a, a, "--fail-over", share).code == 0


@pytest.mark.parametrize("share", ["x", "", "%", "-1", "1.5", "nan%", "inf%"])
def test_no_share_is_one_message(tmp_path: Path, say: Say, share: str) -> None:
    said = say("compare", "a", "a", "--fail-over", share)
    assert said.code == 2
    assert said.err.startswith(f"harness: --fail-over {share!r}: expected a share such as 5% or 0.05")


def test_a_run_is_named_as_it_is_printed_and_a_misspelt_suite_is_told(tmp_path: Path, say: Say) -> None:
    record(tmp_path, "a"), record(tmp_path, "b", seed=1)
    assert say("compare", "suite/a", "suite/b", "--results", tmp_path).code == 0
    said = say("compare", "suit", "b", "--results", tmp_path)
    assert said.code == 2
    assert "there is no run or suite 'suit'; did you mean 'suite'?" in said.err


def test_the_target_of_the_document_can_be_given_back(tmp_path: Path, say: Say) -> None:
    a, b = record(tmp_path, "a"), record(tmp_path, "b", seed=1)
    target = told(say, a, b, "--figure", "time_to_target")["target"]
    assert ">=" in target
    assert told(say, a, b, "--figure", "time_to_target", "--target", target)["target"] == target
