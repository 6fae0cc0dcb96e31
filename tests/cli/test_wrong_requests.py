"""Requests that are wrong before anything is started: one message, exit code 2, and nothing left behind."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Say = Callable[..., Any]

ROOT = Path(__file__).parents[2]
BATCH_SIZE = ROOT / "suites" / "batch_size.py"
FUNCTIONS = Path(__file__).with_name("functions.py")

HEAD = """from harness import Setting, Suite, application, cases, layer, mlp, product, reach, sequential, sgd
base = {"dataset": "mnist5k", "model": mlp(8), "optimizer": sgd(0.1)}
"""


def refused(said: Say, *words: object) -> str:
    """Return the message of a command that must be refused."""
    answer = said(*words)
    assert answer.code == 2, answer
    assert answer.out == ""
    assert answer.err.startswith("harness: ")
    assert "Traceback" not in answer.err
    return str(answer.err)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('from harness import Suite\nsuite = Suite(name="x"\n', "suite.py:2: '(' was never closed"),
        ("import harness\n\n1 / 0\n", "suite.py:3: ZeroDivisionError: division by zero"),
        ("import not_there\n", "suite.py:1: ModuleNotFoundError: No module named 'not_there'"),
        ("raise SystemExit('no')\n", "suite.py:1: SystemExit: no"),
        ("", "suite.py: the file declares no value named `suite`; add `suite = Suite(...)`"),
        (HEAD + 'mine = Suite(name="x", base=Setting(**base))', "it has a Suite named 'mine': rename it"),
        ('suite = {"name": "x"}', "suite.py: `suite` is a dict, not a Suite; write `suite = Suite(...)`"),
    ],
)
def test_a_suite_file_that_gives_no_suite_is_named_with_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: Say, text: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("suite.py").write_text(text)
    assert message in refused(say, "plan", "suite.py")


def test_a_suite_file_that_is_not_there_is_answered_with_those_that_are(tmp_path: Path, say: Say) -> None:
    (tmp_path / "optimizers.py").touch()
    message = refused(say, "run", tmp_path / "optimisers.py")
    assert f"{tmp_path}/optimisers.py: there is no such file" in message
    assert "optimizers.py" in message.partition("has:")[2]


def test_a_folder_is_no_suite_file(tmp_path: Path, say: Say) -> None:
    assert f"{tmp_path}: is a folder; give a suite's Python file" in refused(say, "plan", tmp_path)


def test_a_binary_file_is_no_suite_file(tmp_path: Path, say: Say) -> None:
    (tmp_path / "suite.py").write_bytes(b"\xff\xfe\x00")
    assert "suite.py: is no text in UTF-8" in refused(say, "plan", tmp_path / "suite.py")


@pytest.mark.parametrize(
    ("declared", "messages"),
    [
        ('grid=product({"optimizer.learning_rat": [0.1]})', ["optimizer.learning_rat = 0.1", "'learning_rate'?"]),
        ("grid=product(batchsize=[16])", ["unknown path 'batchsize'; did you mean 'batch_size'?"]),
        ("grid=product(batch_size=[0, 16])", ["batch_size = 0: batch_size must be at least 1, got 0"]),
        ('grid=product(batch_size=["16"])', ["batch_size must be a whole number, got '16'"]),
        ("grid=product(batch_size=[16, 4001])", ["batch_size is 4001", "'mnist5k'", "at most 4000"]),
        ('grid=product({"dataset.take": [4001]})', ["dataset.take is 4001", "holds 4000"]),
        ("grid=product(batch_size=[])", ["the axis 'batch_size' is empty"]),
        ('grid=product(batch_size=[16]).where("batch_size > 16")', ["the grid is empty", "where batch_size > 16"]),
        ("grid=product(batch_size=[16, 16])", ["the axis 'batch_size' has the value 16 twice"]),
        ('grid=product(batch_size=[16]) + cases({"batch_size": 16})', ["the same setting: number 1 (batch_size=16)"]),
        ("target=90", ["no training can reach val_accuracy 90", "from 0 to 1; did you mean 0.9?"]),
        ('target=reach("val_acuracy", at_least=0.9)', ["unknown metric 'val_acuracy'; did you mean 'val_accuracy'?"]),
        ('target=reach("val_loss", at_least=0.4)', ["a target on val_loss", "at_most="]),
        ('small={"epoch": 2}', ["unknown path 'epoch'; did you mean 'epochs'?"]),
        ("repeat=3", ["unknown field 'repeat'; did you mean 'repeats'?"]),
        ('timeout="soon"', ["timeout: 'soon' is no duration", "'10m'"]),
    ],
)
def test_a_wrong_declaration_is_named_with_file_place_and_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: Say, declared: str, messages: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("suite.py").write_text(HEAD + f'suite = Suite(name="x", base=Setting(**base), {declared})\n')
    message = refused(say, "plan", "suite.py", *(["--small"] if "small" in declared else []))
    assert message.startswith("harness: suite.py")
    for part in messages:
        assert part in message


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("dataset", '"mnist50k"', "unknown dataset 'mnist50k'; known datasets: mnist, mnist5k, products, pro"),
        ("model", 'sequential(layer("Dens", units=8))', "unknown layer 'Dens'; did you mean 'Dense'?"),
        ("model", 'sequential(layer("Dense", unit=8))', "has no argument 'unit'; did you mean 'units'?"),
        ("model", 'mlp(8, activation="rellu")', "unknown activation 'rellu'; did you mean 'relu'"),
        ("model", 'application("ResNet51")', "unknown model 'ResNet51'; did you mean 'ResNet50'"),
        ("optimizer", '"sdg"', "unknown optimizer 'sdg'; did you mean 'sgd'?"),
        ("loss", '"categorical_crossentrpy"', "did you mean 'categorical_crossentropy'"),
        ("batch_size", "0", "batch_size must be at least 1, got 0"),
        ("model", "None", "a training needs a model"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: Say, field: str, value: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("suite.py").write_text(HEAD + f'suite = Suite(name="x", base=Setting(**(base | {{"{field}": {value}}})))\n')
    said = refused(say, "plan", "suite.py")
    assert said.startswith("harness: suite.py")
    assert message in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "batch_size"], "--set 'batch_size': expected PATH=VALUE"),
        (["--set", "batch_size="], "--set 'batch_size=': expected PATH=VALUE"),
        (["--set", "batch_size=16,16"], "a value is given twice"),
        (["--set", "batch_size=[16"], "missing ']'"),
        (["--set", "batchsize=16"], "did you mean 'batch_size'?"),
        (["--set", "epochs=0"], "epochs = 0: epochs must be at least 1"),
        (["--set", "optimizer=sgd(0.1)"], "write name=value, such as sgd(learning_rate=0.1)"),
        (["--set", "repeats=0"], "repeats must be at least 1, got 0"),
        (["--set", "timeout=never"], "timeout: 'never' is no duration"),
        (["--set", "target=2"], "no training can reach val_accuracy 2"),
        (["--where", "batch_size >"], "expression 'batch_size >'"),
        (["--where", "batchsize > 3"], "unknown path 'batchsize'; did you mean 'batch_size'?"),
        (["--where", "batch_size"], "'batch_size' is no condition"),
        (["--where", "batch_size > 'a'"], "cannot compare 16 with 'a'"),
        (["--where", "__import__('os')"], "the functions are abs, len"),
        (["--where", "batch_size > 1000"], "no trial is left: all 12 were left out by --where batch_size > 1000"),
    ],
)
def test_a_wrong_choice_on_the_command_line_is_named(say: Say, words: list[str], message: str) -> None:
    assert message in refused(say, "plan", BATCH_SIZE, *words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--retry", "failed,broken"], "--retry 'broken': known statuses are failed, timeout and lost"),
        (["--budget", "soon"], "--budget: 'soon' is no duration"),
        (["--budget", "0"], "--budget: '0' is no duration; give seconds above 0"),
        (["--inline", "--workers", "2"], "--inline runs in this process alone"),
        (["--force"], "--force and --take-over go with --resume"),
        (["--expect-nodes", "2"], "--expect-nodes goes with --address"),
        (["--expect-within", "3s"], "--expect-within goes with --expect-nodes"),
        (["--skip-bad-nodes"], "--skip-bad-nodes goes with --address"),
        (["--run", "a/b"], "the run's name 'a/b' cannot be a folder's name"),
        (["--shard", "0/2"], "--shard 0/2: goes with --run and --resume"),
        (["--run", "x", "--shard", "0/2"], "--shard 0/2: goes with --run and --resume"),
        (["--run", "x", "--resume", "--shard", "2/2"], "--shard '2/2': give it as K/N, K from 0 to N - 1"),
        (["--run", "x", "--resume", "--shard", "first"], "--shard 'first': give it as K/N"),
        (["--run", "x", "--resume", "--shard", "0/40"], "40 shards of 12 trials"),
        (["--address", "somewhere"], "--address somewhere: this is no HOST:PORT"),
        (["--address", "localhost:1"], "--address localhost:1: nothing answers there (Connection refused)"),
    ],
)
def test_a_wrong_option_of_run_is_named_and_leaves_no_folder(
    tmp_path: Path, say: Say, words: list[str], message: str
) -> None:
    answer = say("run", BATCH_SIZE, "--results", tmp_path / "results", *words)
    assert answer.code == 2
    assert message in answer.err
    assert list(tmp_path.rglob("run.json")) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max-fail", "0"], "--max-fail 0: must be a whole number, 1 or more (stop once"),
        (["--workers", "none"], "--workers none: must be a whole number, 1 or more (at most so many workers a node)"),
        (["--telemetry", "51"], "--telemetry 51: must be a number from 0 to 50 (hardware readings a second; 0: none)"),
        (["--telemetry", "-1"], "--telemetry -1: must be a number from 0 to 50"),
        (["--telemetry", "nan"], "--telemetry nan: must be a number from 0 to 50"),
        (["--telemetry"], "option '--telemetry' requires an argument"),
        (["--quux"], "no such option: --quux; `harness run --help` says what there is"),
    ],
)
def test_an_option_that_cannot_be_is_refused_in_one_line(say: Say, words: list[str], message: str) -> None:
    told = refused(say, "run", BATCH_SIZE, *words)
    assert told.startswith(f"harness: {message}")
    assert told.count("\n") == 1


def test_a_command_without_words_is_answered_with_the_help(say: Say) -> None:
    for words in ([], ["data"]):
        answer = say(*words)
        assert answer.code == 2
        assert "Commands:" in answer.err


# Results folders. ---------------------------------------------------------------------------------------------


def test_a_file_in_place_of_the_results_folder_is_named(tmp_path: Path, say: Say) -> None:
    (tmp_path / "results").touch()
    message = refused(say, "run", BATCH_SIZE, "--results", tmp_path / "results")
    assert f"{tmp_path}/results/batch_size" in message
    assert "cannot be written there (Not a directory)" in message
    assert "--results DIR" in message


def test_a_place_where_nobody_can_write_is_named(say: Say) -> None:
    message = refused(say, "run", BATCH_SIZE, "--results", "/proc/results")
    assert "/proc/results/batch_size" in message
    assert "--results DIR" in message


@pytest.fixture
def read_only(tmp_path: Path, require: Callable[[object, str], None]) -> Iterator[Path]:
    """A file system that is mounted for reading alone; permissions would not stop root."""
    folder = tmp_path / "read_only"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", folder], capture_output=True, check=False)
    require(mounted.returncode == 0, "only root can mount a file system to test on")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_read_only_file_system_is_named(read_only: Path, say: Say) -> None:
    message = refused(say, "run", BATCH_SIZE, "--results", read_only)
    assert f"{read_only}/batch_size" in message
    assert "(Read-only file system)" in message


def test_there_must_be_something_to_resume(tmp_path: Path, say: Say) -> None:
    message = refused(say, "run", BATCH_SIZE, "--resume", "--results", tmp_path)
    assert f"{tmp_path}/batch_size: no run of suite 'batch_size' to resume; it has no runs" in message
    assert "without --resume" in message


def test_there_must_be_something_to_show(tmp_path: Path, say: Say) -> None:
    assert f"{tmp_path}: no run is recorded" in refused(say, "show", "--results", tmp_path)
    assert "there is no run or suite 'mine'" in refused(say, "show", "mine", "--results", tmp_path)


def test_a_results_folder_without_runs_has_an_empty_status(tmp_path: Path, say: Say) -> None:
    answer = say("status", "--results", tmp_path / "none")
    assert (answer.code, answer.err) == (0, "")
    assert "no run is recorded here yet" in answer.out
    assert say("status", "--results", tmp_path / "none", "--json").out == "[]\n"


# Plans and datasets, which end before anything is started as well. ---------------------------------------------


def test_a_plan_shows_axes_counts_trials_and_what_was_left_out(say: Say) -> None:
    answer = say("plan", BATCH_SIZE, "--where", "batch_size < 64 or seed == 0")
    assert answer.code == 0
    assert "batch_size: 8 trials of 4 settings, 3 seeds" in answer.out
    assert "Does a smaller batch reach 90 % sooner?" in answer.out
    assert "batch_size = 16, 32, 64, 128" in answer.out
    assert "target: val_accuracy ≥ 0.9" in answer.out
    assert "excluded: 4" in answer.out
    assert "batch_size=64 seed=1: --where batch_size < 64 or seed == 0" in answer.out


def test_a_long_plan_shows_twenty_trials_unless_all_are_asked_for(say: Say) -> None:
    few = say("plan", BATCH_SIZE, "--set", "repeats=10").out
    assert few.count("batch_size=") == 20
    assert "… and 20 more; --all lists them" in few
    assert say("plan", BATCH_SIZE, "--set", "repeats=10", "--all").out.count("batch_size=") == 40


def test_a_plan_as_json_stays_json_when_the_suite_prints(say: Say) -> None:
    answer = say("plan", FUNCTIONS, "--json")
    document = json.loads(answer.out)
    assert len(document["trials"]) == 7
    assert document["axes"]["workload.mode"][0] == "ok"
    assert "this suite's file prints something" in answer.err


def test_the_datasets_are_listed_with_where_they_are(say: Say) -> None:
    answer = say("data", "list")
    assert answer.code == 0
    assert "mnist5k" in answer.out
    assert "4,000 + 1,000" in answer.out


def test_an_unknown_dataset_or_a_file_that_is_none_is_named(
    tmp_path: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_DATA_DIR", str(tmp_path))
    (tmp_path / "mine.npz").write_bytes(b"not an archive")
    assert "unknown dataset 'mnist7'; known datasets" in refused(say, "data", "verify", "mnist7")
    assert "unknown dataset 'mnist7'; known datasets" in refused(say, "data", "fetch", "mnist7")
    assert f"{tmp_path}/mine.npz" in refused(say, "data", "import", "mnist", tmp_path / "mine.npz")
    assert not (tmp_path / "mnist.npz").exists()
