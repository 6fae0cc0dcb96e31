"""Results are not trusted: reading them runs nothing, leaves no folder and steers no terminal. Suites are code."""

from __future__ import annotations

import ast
import base64
import io
import json
import marshal
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from record.finished import INFO, finished

from harness.answer.contents.origin import package_grid
from harness.cli.commands import app
from harness.domain.errors import HarnessError, ResultsError
from harness.domain.setting import Setting
from harness.domain.state import pack, unpack
from harness.domain.trial import Trial
from harness.record.reading import load
from harness.record.recorder import Recorder
from harness.record.runs import read_run_file, resume_command
from harness.workloads.states import from_bytes

ROOT = Path(__file__).parents[1]
MARKUP = "[red]x[/red][link=http://e]y[/link]</script><script>alert(1)</script>"
EVIL = f"\x1b]0;title\x07\x1b[31m\u202e{MARKUP}$(touch ran);'\"\n|&"
HARMLESS = ("status", "metric")  # columns whose values are names of ours


# Files from a results folder. ---------------------------------------------------------------------------------------


class Bomb:
    """Runs a command where it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch ran",)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with a run in which every text that can hold anything does."""
    (source,) = (ROOT / "results" / "example").iterdir()
    run = tmp_path_factory.mktemp("results") / "evil" / "20260101-000000-dead"
    shutil.copytree(source, run, ignore=shutil.ignore_patterns("log"))
    content = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(_hurt(content)))
    for name in ("trials", "epochs", "nodes", "telemetry"):
        table = pq.read_table(run / f"{name}.parquet")
        for place, column in enumerate(table.schema):
            if pa.types.is_string(column.type) and column.name not in HARMLESS:
                given = [None if value is None else value + EVIL for value in table[column.name].to_pylist()]
                told = [EVIL] * table.num_rows if column.name in ("label", "error", "error_detail") else given
                table = table.set_column(place, column, pa.array(told, column.type))
        pq.write_table(table, run / f"{name}.parquet")
    return run


def _hurt(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _hurt(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [_hurt(item, name) for item in value]
    return value + EVIL if isinstance(value, str) and name not in ("state", "started_at", "ended_at") else value


@pytest.mark.parametrize(
    "words",
    [
        ["status", "{run}"],
        ["status", "--results", "{results}"],
        ["show", "{run}"],
        ["compare", "{run}", "{run}"],
        ["export", "{run}", "--to", "markdown"],
    ],
)
def test_what_a_recorded_run_says_does_not_steer_the_terminal(
    words: list[str], hostile: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    status: object = 0
    try:
        app([word.format(run=hostile, results=hostile.parents[1]) for word in words], standalone_mode=False)
    except (HarnessError, typer.TyperException) as error:
        status = error
    printed = "".join(capfd.readouterr())
    assert printed or status
    assert not [letter for letter in printed if letter != "\n" and not letter.isprintable()]


def test_a_description_of_a_node_that_is_no_json_is_left_out_of_a_report(hostile: Path) -> None:
    assert package_grid(load(hostile).nodes) is None


def test_an_export_writes_nowhere_but_where_it_was_told(hostile: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    app(["export", str(hostile), "--to", "csv", "--output", str(folder)], standalone_mode=False)
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {
        "trials.csv", "epochs.csv", "telemetry.csv", "nodes.csv",
    }  # fmt: skip


def test_the_command_that_goes_on_with_a_run_is_quoted_for_a_shell() -> None:
    words = ["harness", "run", "a b; touch ran", "$(touch ran)", "`touch ran`", "x\n&"]
    told = resume_command({"command": words, "run_id": "r'; touch ran"})
    assert shlex.split(told) == [*words, "--run", "r'; touch ran", "--resume"]


@pytest.mark.parametrize("content", ["[" * 200_000, '{"schema_version": ' + "9" * 10_000 + "}", '{"a":' * 100_000])
def test_json_that_is_too_deep_or_too_long_is_one_message(content: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(ResultsError, match="is damaged"):
        read_run_file(tmp_path)


@pytest.mark.parametrize("name", ["../../outside", "a/../../../outside", "{tmp}/outside", "link/outside"])
def test_a_file_that_a_worker_names_cannot_lie_outside_its_trials_folder(name: str, tmp_path: Path) -> None:
    results = tmp_path / "results"
    recorder = Recorder.create(results, suite="s", info=INFO)
    one = finished(0)
    (recorder.folder / "artifacts").mkdir()
    (recorder.folder / "link").symlink_to(tmp_path)
    (path,) = [name.format(tmp=tmp_path).replace("link/", "../../link/")]
    with recorder, pytest.raises(ResultsError, match="would lie outside"):
        recorder.write(replace(one, outcome=replace(one.outcome, files={path: b"x"})))
    assert not (tmp_path / "outside").exists()
    assert not list(results.rglob("outside"))


@pytest.mark.parametrize("words", [["--run", "../../x"], ["--run", "/etc"], ["--run", "a/b"]])
def test_a_runs_name_does_not_lead_out_of_the_results(words: list[str], tmp_path: Path) -> None:
    suite = tmp_path / "s.py"
    suite.write_text(
        "from harness import Setting, Suite, program\nsuite = Suite(name='s', base=Setting(workload=program('true')))\n"
    )
    with pytest.raises(ResultsError, match="cannot be a folder's name"):
        app(["run", str(suite), "--results", str(tmp_path / "r"), "--resume", *words], standalone_mode=False)


def test_a_saved_state_that_holds_a_pickle_is_not_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = io.BytesIO()
    np.savez(file, weights=np.array([Bomb()], dtype=object))
    trial = Trial(setting=Setting(), seed=0, repeat=0)
    state = unpack(trial, pack(trial, {"epoch": 1, "resumptions": 0}, file.getvalue()))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        from_bytes(state.arrays)
    assert not Path("ran").exists()


# The code. ----------------------------------------------------------------------------------------------------------

# Where text of the user's own suite is run, and where processes of one command speak with each other through pipes and
# sockets in folders of the user's alone.
RUNS_TEXT = {"domain/beside.py", "domain/sources.py", "workloads/training/torch_graph/loop.py"}
UNPICKLES = {"schedule/child.py", "schedule/resident/server.py"}


def _calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def test_no_code_that_reads_files_unpickles_or_executes() -> None:
    for path in (ROOT / "harness").rglob("*.py"):
        place = path.relative_to(ROOT / "harness").as_posix()
        for name, call in _calls(path):
            options = {option.arg: ast.unparse(option.value) for option in call.keywords}
            assert name not in ("eval", "marshal.loads", "os.system", "os.popen", "joblib.load", "pd.read_pickle"), (
                place
            )
            assert name not in ("exec",) or place in RUNS_TEXT, place
            assert name not in ("pickle.load", "pickle.loads", "pickle.Unpickler") or place in UNPICKLES, place
            assert name not in ("np.load", "np.lib.format.read_array") or options.get("allow_pickle") == "False", place
            assert name != "torch.load" or options.get("weights_only") == "True", place
            assert "shell" not in options, place


# Real processes, both started at once. ------------------------------------------------------------------------------

APPLY = (
    "import sys; from pathlib import Path; from harness.workloads.training.saved import load; load(Path(sys.argv[1]))"
)
NAP = """
import time
from harness import Setting, Suite, function
def nap(trial): time.sleep(2)
suite = Suite(name="naps", base=Setting(workload=function(nap)))
"""


@pytest.fixture(scope="module")
def started_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("started")


@pytest.fixture(scope="module")
def started(started_in: Path) -> Iterator[dict[str, subprocess.Popen[str]]]:
    folder = started_in
    code = compile("lambda x: __import__('os').system('touch ran') or x", "bomb", "eval").co_consts[0]
    function = {"class_name": "__lambda__", "config": {"code": base64.b64encode(marshal.dumps(code)).decode()}}
    layers = [
        {"module": "keras.layers", "class_name": "InputLayer", "config": {"batch_shape": [None, 4], "name": "i"}},
        {"module": "keras.layers", "class_name": "Lambda", "config": {"name": "l", "function": function}},
    ]
    model = {"module": "keras", "class_name": "Sequential", "config": {"name": "s", "layers": layers}}
    (folder / "model.json").write_text(json.dumps(model))
    (folder / "model.weights.h5").write_bytes(b"")
    (folder / "trial.json").write_text(json.dumps({"setting": {}, "seed": 0, "preparation": {}}))
    (folder / "naps.py").write_text(NAP)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = {
        "apply": [sys.executable, "-c", APPLY, str(folder)],
        "run": [
            sys.executable,
            "-m",
            "harness",
            "run",
            str(folder / "naps.py"),
            "--results",
            str(folder / "results"),
            "--no-calibrate",
        ],
    }
    made = {
        name: subprocess.Popen(
            command, cwd=folder, env=environment, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for name, command in words.items()
    }  # fmt: skip
    yield made
    for process in made.values():
        process.kill()
        process.communicate()


def test_during_a_run_nothing_listens_off_loopback(started: dict[str, subprocess.Popen[str]]) -> None:
    run, seen = psutil.Process(started["run"].pid), set()
    while started["run"].poll() is None:
        try:
            ours = {run.pid, *(one.pid for one in run.children(recursive=True))}
        except psutil.NoSuchProcess:
            break
        for one in psutil.net_connections("inet"):
            if one.pid in ours and one.laddr and one.status == psutil.CONN_LISTEN:
                seen.add(one.laddr[0])
        time.sleep(0.1)
    assert started["run"].wait(60) == 0
    assert seen
    assert seen <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_a_saved_model_with_code_in_it_is_refused_and_not_run(
    started: dict[str, subprocess.Popen[str]], started_in: Path
) -> None:
    told, _ = started["apply"].communicate(timeout=60)
    assert started["apply"].returncode != 0
    assert "ResultsError" in told
    assert "Lambda" in told
    assert not any(path.name == "ran" for path in started_in.iterdir())
