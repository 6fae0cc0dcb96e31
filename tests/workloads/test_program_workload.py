"""A program as a workload: what it reports, how it ends, and that nothing of it is left."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import textwrap
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness import processes
from harness.domain import sources
from harness.domain.errors import SuiteError
from harness.domain.handy import adam, early_stopping, program
from harness.domain.outcome import EpochRecord, Outcome
from harness.domain.setting import Setting
from harness.domain.trial import Trial
from harness.measure import WorkerState, run_trial
from harness.schedule.launch import Launch
from harness.schedule.node import Node
from harness.workloads.program import run as program_run
from harness.workloads.program.command import fill
from harness.workloads.program.output import LINE_BYTES, Output
from harness.workloads.program.run import Run
from harness.workloads.protocol import Epochs
from harness.workloads.reported import ReportError

WELL = """echo '{{"epoch": 1, "loss": 0.5}}';"""  # an epoch, as a shell prints it


def a_trial(*command: str, timeout_s: float | None = None, **fields: Any) -> Trial:
    return Trial(setting=Setting(workload=program(*command), **fields), seed=7, repeat=0, timeout_s=timeout_s)


def run(*command: str, timeout_s: float | None = 240, **fields: Any) -> Outcome:
    outcome = run_trial(a_trial(*command, timeout_s=timeout_s, **fields), WorkerState(), lambda epoch: None)
    assert processes.below(os.getpid()) == []
    return outcome


def shell(script: str, **fields: Any) -> Outcome:
    return run("sh", "-c", script, **fields)


def python(script: str, **fields: Any) -> Outcome:
    return run("{python}", "-c", textwrap.dedent(script).replace("{", "{{").replace("}", "}}"), **fields)


def running(marker: str) -> list[int]:
    """The processes whose command line holds the marker."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and marker.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return [pid for pid in found if processes.alive(pid)]


# The command. -------------------------------------------------------------------------------------------------------


def test_the_values_of_a_trial_stand_in_the_places_of_their_paths() -> None:
    setting = Setting(batch_size=16, optimizer=adam(1.0), label="a b")
    words = ["x", "--batch={batch_size}", "{optimizer.learning_rate}/{seed}", "{optimizer}", "{label}", "{{{epochs}}}"]
    filled = fill([*words, "{shuffle}", "{python}"], setting, seed=3)
    assert filled == ["x", "--batch=16", "1/3", "adam", "a b", "{1}", "true", sys.executable]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("{batchsize}", "names an unknown path 'batchsize'; did you mean 'batch_size'?"),
        ("{model.hidden}", "names an unknown path 'model.hidden'"),
        ("{}", "names an unknown path ''"),
        ("print $1}", "a brace is alone in 'print $1}'; write {{ and }} for braces"),
    ],
)
def test_a_value_that_the_setting_does_not_have_is_found_before_any_trial(word: str, message: str) -> None:
    trial = a_trial("awk", word)
    with pytest.raises(SuiteError) as caught:
        WorkerState().workload(trial).check(trial, {})
    assert message in str(caught.value)


def test_a_program_finds_its_trial_in_its_environment_and_nothing_on_its_input() -> None:
    outcome = python("""
        import json, os, sys
        trial = json.loads(os.environ["HARNESS_TRIAL"])
        assert sys.stdin.read() == ""
        print(json.dumps({"epoch": 1, "seed": trial["seed"], "batch": trial["setting"]["batch_size"]}))
    """)
    assert outcome.error is None
    assert outcome.epochs[0].extra == {"seed": 7, "batch": 32}


# The files beside the suite. ----------------------------------------------------------------------------------------

SCRIPT = """
import json, os
from helpers.lines import line
print(line(os.path.dirname(os.path.abspath(__file__)), open(os.path.dirname(__file__) + "/../own.json").read()))
"""
LINE = """
import json, zlib
def line(here, own): return json.dumps({"epoch": 1, "own": json.loads(own), "here": zlib.crc32(here.encode())})
"""


def beside_a_suite(folder: Path, command: str) -> Trial:
    """A trial as a suite in the folder declares it, which has a script, what that imports, and what it reads."""
    for path, text in {"x/train.py": SCRIPT, "x/helpers/lines.py": LINE, "own.json": "5", "other.py": "1"}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    own = {"__file__": str(folder / "suite.py"), "program": program}
    return Trial(setting=Setting(workload=eval(f"program({command!r})", own)), seed=7, repeat=0, timeout_s=240)


@pytest.mark.parametrize("there", [True, False])
def test_scripts_beside_the_suite_run_also_where_its_folder_is_not(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, room = tmp_path / "suites", tmp_path / "room"
    room.mkdir()
    monkeypatch.setenv("HARNESS_WORKER_FOLDER", str(room))
    trial = beside_a_suite(folder, "{python} {suite_dir}/x/train.py --own={suite_dir}/own.json")
    if not there:
        (folder / "own.json").write_text("6")  # changed since
    outcome = run_trial(trial, WorkerState(sources=sources.collected()), lambda epoch: None)
    assert (outcome.error, outcome.epochs[0].extra["own"]) == (None, 5)
    assert (outcome.epochs[0].extra["here"] == zlib.crc32(bytes(folder / "x"))) == there
    assert list(room.iterdir()) == []


def test_a_script_that_was_changed_is_another_workload(tmp_path: Path) -> None:
    command = "{python} {suite_dir}/x/train.py"
    first, again = (beside_a_suite(tmp_path / name, command) for name in ("1", "2"))
    (tmp_path / "2/x/helpers/lines.py").write_text(LINE + "\n")
    own = {"__file__": str(tmp_path / "2/suite.py"), "program": program}
    assert first.setting_id == again.setting_id
    assert Setting(workload=eval(f"program({command!r})", own)).setting_id != first.setting_id


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("{python} {suite_dir}", "comes the name of a file"),
        ("{python} {suite_dir}/{label}.py", "comes the name of a file"),
        ("{python} {suite_dir}/../../secret", "is not a file below the suite's folder"),
        ("{python} {suite_dir}/none.py", "none.py cannot travel to the nodes (No such file or directory)"),
        ("{python} {suite_dir}/x", "x cannot travel to the nodes (Is a directory)"),
    ],
)
def test_a_file_that_cannot_travel_is_refused_where_it_is_declared(command: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=re.escape(message)):
        beside_a_suite(tmp_path, command)


def test_a_file_that_only_an_override_names_is_refused_before_any_trial(tmp_path: Path) -> None:
    trial = beside_a_suite(tmp_path, "{python} {suite_dir}/x/train.py")
    args = {**trial.setting.workload.args, "command": ["x", "{suite_dir}/other.py"]}
    other = Setting(workload={"name": "program", **args})
    with pytest.raises(SuiteError, match=r"\{suite_dir\}/other.py did not travel"):
        WorkerState().workload(trial).check(Trial(setting=other, seed=0, repeat=0), sources.collected())


def test_a_program_that_fails_where_the_commands_folder_is_not_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_STARTED_IN", "/no/such/home")
    failed, missing = run("{python}", "scripts/train.py"), run("scripts/train.sh")
    for outcome in (failed, missing):
        assert "has no folder /no/such/home, in which harness was started" in (outcome.error or "")
        assert platform.node() in (outcome.error or "")


# What it reports. ---------------------------------------------------------------------------------------------------


def test_each_line_of_an_epoch_is_recorded_with_its_metrics() -> None:
    outcome = python("""
        from harness.progress import report
        print("some log, and no end of line", end="")
        report.ready(val_accuracy=0.1)
        for epoch in range(3):
            report(samples=4000, steps=4, loss=1 / (epoch + 1), val_accuracy=0.9, f1=None, val_f1=0.5)
    """)
    assert (outcome.status, outcome.error) == ("completed", None)
    assert [(one.epoch, one.samples, one.steps, one.loss) for one in outcome.epochs] == [
        (1, 4000, 4, 1.0), (2, 4000, 4, 0.5), (3, 4000, 4, 1 / 3),
    ]  # fmt: skip
    assert outcome.epochs[0].val_accuracy == 0.9
    assert outcome.epochs[0].extra == {"val_f1": 0.5}
    assert outcome.facts.initial_val_accuracy == 0.1


@pytest.fixture
def paced(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Return the outcome of a program whose lines come so many seconds each after the one before, by a clock that
    nothing holds up."""

    def paced(*lines: tuple[float, str]) -> Outcome:
        now_s = [100.0]

        def come(run: Run, epochs: Epochs) -> Iterator[bytes]:
            for after_s, line in lines:
                now_s[0] += after_s
                yield line.encode()

        monkeypatch.setattr(Run, "_lines", come)
        return run_trial(a_trial("true"), WorkerState(), lambda epoch: None, now=lambda: now_s[0])

    return paced


READY, EVALUATING = '{"event": "ready"}', '{"event": "evaluating"}'


def test_time_is_sorted_into_building_training_and_evaluation_as_the_lines_come(paced: Callable[..., Outcome]) -> None:
    epochs = [(0.125, EVALUATING), (0.25, '{"epoch": 1}'), (0.125, EVALUATING), (0.25, '{"epoch": 2}')]
    outcome = paced((0.5, READY), *epochs, (1.0, "the end"))
    assert [(epoch.train_s, epoch.eval_s, epoch.warmup) for epoch in outcome.epochs] == [(0.125, 0.25, False)] * 2
    watches = outcome.watches
    assert (watches.build_s, watches.train_s, watches.eval_s, watches.unattributed_s) == (0.5, 0.25, 0.5, 1.0)


def test_without_a_line_that_says_ready_the_first_epoch_begins_with_the_program_and_is_flagged(
    paced: Callable[..., Outcome],
) -> None:
    outcome = paced((0.5, '{"epoch": 1}'), (0.25, '{"epoch": 2}'))
    assert [(epoch.train_s, epoch.warmup) for epoch in outcome.epochs] == [(0.5, True), (0.25, False)]
    assert outcome.watches.build_s == 0


def test_a_real_programs_time_is_sorted_too() -> None:
    outcome = python("""
        import time
        from harness.progress import report
        report.ready()
        for _ in range(2):
            time.sleep(0.05)
            report.evaluating()
            report(loss=1.0)
    """)
    watches = outcome.watches
    assert not any(epoch.warmup for epoch in outcome.epochs)
    for spent_s in (watches.build_s, *(epoch.train_s for epoch in outcome.epochs)):
        assert 0 < spent_s < watches.wall_s
    assert watches.train_s == pytest.approx(sum(epoch.train_s for epoch in outcome.epochs))
    assert watches.eval_s == pytest.approx(sum(epoch.eval_s or 0 for epoch in outcome.epochs))


def test_times_that_the_program_states_are_recorded_as_told(paced: Callable[..., Outcome]) -> None:
    told = '{"epoch": 1, "train_s": 0.0625, "eval_s": 0.03125}'
    for outcome in (shell(f"echo '{told.replace('{', '{{').replace('}', '}}')}'"), paced((0.25, told))):
        (epoch,) = outcome.epochs
        assert (epoch.train_s, epoch.eval_s, epoch.warmup) == (0.0625, 0.03125, False)
        assert outcome.watches.train_s == 0.0625
    assert outcome.watches.build_s == 0.25 - 0.0625 - 0.03125


def test_a_line_that_is_read_late_does_not_have_the_epoch_after_it_refused(paced: Callable[..., Outcome]) -> None:
    outcome = paced((1.0, READY), (0.125, '{"epoch": 1, "train_s": 0.5}'))  # ready 0.375 s late
    assert (outcome.error, outcome.epochs[0].train_s) == (None, 0.5)
    watches = outcome.watches
    assert (watches.build_s, watches.train_s, watches.unattributed_s) == (0.625, 0.5, 0.0)


def test_a_program_cannot_state_a_little_too_much_for_every_epoch(paced: Callable[..., Outcome]) -> None:
    outcome = paced((1.0, READY), *((0.125, f'{{"epoch": {epoch}, "train_s": 0.375}}') for epoch in range(1, 9)))
    assert (outcome.status, len(outcome.epochs)) == ("failed", 2)


def test_times_that_cannot_be_are_refused(paced: Callable[..., Outcome]) -> None:
    outcome = paced((0.125, '{"epoch": 1, "train_s": 350}'))
    assert "the program's epoch 1 states 350 s of training and evaluation where 0.125 s" in str(outcome.error)
    assert "train_s='1'; expected seconds" in str(paced((0.0, '{"epoch": 1, "train_s": "1"}')).error)


def test_the_processors_of_the_whole_tree_are_counted_and_so_is_its_memory() -> None:
    outcome = python("""
        import subprocess, sys
        from harness.progress import report
        burns = (
            "import time; kept = bytearray(50_000_000)",
            "while time.process_time() < 0.8: pass",
        )
        report.ready()
        subprocess.run([sys.executable, "-c", chr(10).join(burns)])
        report(loss=1.0)
    """)
    (epoch,) = outcome.epochs
    assert (
        epoch.user_cpu_s + epoch.system_cpu_s >= 0.4
    )  # what it used before its first line was read is not in the epoch
    assert (outcome.facts.user_cpu_s or 0) + (outcome.facts.system_cpu_s or 0) >= 0.8
    assert 50_000_000 < (outcome.facts.peak_rss_bytes or 0) < 150_000_000


def test_what_a_program_used_is_counted_also_if_its_last_line_is_read_after_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    take = Run._take

    def take_late(run: Run, *given: Any) -> None:
        assert run._process is not None
        os.waitid(os.P_PID, run._process.pid, os.WEXITED | os.WNOWAIT)
        take(run, *given)

    monkeypatch.setattr(Run, "_take", take_late)
    (epoch,) = python("""
        import time
        while time.process_time() < 0.6: pass
        print('{"epoch": 1}')
    """).epochs
    assert epoch.user_cpu_s + epoch.system_cpu_s >= 0.3  # what it used before the clock began is not in the epoch


def test_what_else_a_program_prints_is_its_log() -> None:
    outcome = shell("""echo hello; echo '{{"level": "info"}}'; echo '{{not json'; echo oops >&2; exit 3""")
    assert outcome.error == "sh: exit code 3: oops"
    assert sorted(str(outcome.error_detail).split("\n")) == ["", "hello", "oops", '{"level": "info"}', "{not json"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"epoch": 0}', "the program reported epoch 0 where 1 was due; epochs count from 1; it printed: "),
        ('{"epoch": 2}', "the program reported epoch 2 where 1 was due"),
        ('{"epoch": true}', "the program reported epoch True where 1 was due"),
        ('{"epoch": 1, "loss": "low"}', "the program's epoch 1 reported loss='low'; expected a number; it printed: "),
        ('{"epoch": 1, "val_f1": NaN}', "the program's epoch 1 reported val_f1=nan; expected a finite number"),
        ('{"epoch": 1, "val f1": 1}', "reported 'val f1'; a metric's name is letters, digits and underscores"),
        ('{"event": "ready", "loss": 1}', "reported loss; before training there are val_loss and val_accuracy"),
        ('{"epoch": 1, "loss": NaN}', "diverged: loss is nan at epoch 1"),
    ],
)
def test_a_report_that_cannot_be_fails_the_trial_and_shows_the_line(line: str, message: str) -> None:
    outcome = run("echo", line.replace("{", "{{").replace("}", "}}"))
    assert outcome.status == "failed"
    assert message in str(outcome.error)
    if "it printed" in message:
        assert str(outcome.error).endswith(line)


def test_early_stopping_ends_a_program_that_would_go_on() -> None:
    rule = early_stopping("val_f1", patience=2)
    outcome = python(
        """
        import time
        from harness.progress import report
        for value in [0.1, 0.5, 0.4, 0.4]:
            report(val_f1=value)
        time.sleep(60)
        """,
        early_stopping=rule,
    )
    assert (outcome.status, len(outcome.epochs)) == ("completed", 4)
    assert (outcome.facts.best_epoch, outcome.facts.stopped_early) == (2, True)


# How it ends. -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("true", "sh: reported no epoch; print one JSON object a line, "),
        ("true", "or use harness.progress; it printed nothing"),
        ("echo garbage; echo", "its last line was: garbage"),
        ("printf '\\377\\000\\033[31mx'", "its last line was: "),
        ("exit 3", "sh: exit code 3: it printed nothing"),
        ("echo out of luck; exit 3", "sh: exit code 3: its last line was: out of luck"),
        ("kill -SEGV $$", "sh: killed by SIGSEGV: it printed nothing"),
        ("kill -9 $$", "sh: killed by SIGKILL (the kernel does this when memory runs out): "),
    ],
)
def test_a_program_that_ends_badly_is_a_failed_trial_with_its_reason(script: str, message: str) -> None:
    outcome = shell(script)
    assert outcome.status == "failed"
    assert message in str(outcome.error)
    assert str(outcome.error).replace("\ufffd", "").isprintable()


def test_the_epochs_before_a_bad_end_are_kept() -> None:
    outcome = shell(f"{WELL} exit 1")
    assert (outcome.status, len(outcome.epochs)) == ("failed", 1)


def test_a_command_that_is_not_there_is_a_failed_trial_that_says_where() -> None:
    outcome = run("no-such-command-anywhere", "x")
    assert outcome.status == "failed"
    assert f"cannot start 'no-such-command-anywhere' on {os.uname().nodename}, in {Path.cwd()}: No such file" in str(
        outcome.error
    )


def test_a_program_that_hangs_is_ended_at_its_timeout_with_what_it_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    began, later_s = time.monotonic(), [0.0]

    def an_hour_later(epoch: EpochRecord) -> None:
        later_s[0] = 3600.0

    monkeypatch.setattr(program_run, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + later_s[0]))
    trial = a_trial("sh", "-c", f"echo waiting; {WELL} sleep 300", timeout_s=1800)
    outcome = run_trial(trial, WorkerState(), an_hour_later)
    assert (outcome.status, outcome.error, len(outcome.epochs)) == ("timeout", "timed out after 1800 s", 1)
    assert outcome.error_detail == "waiting\n"
    assert processes.below(os.getpid()) == []
    assert time.monotonic() - began < 150


def test_a_program_that_daemonises_leaves_nothing_behind() -> None:
    marker = f"harness-left-{os.getpid()}"
    for end in ("exit 0", "sleep 300", "exit 4"):
        began = time.monotonic()
        shell(
            f"(setsid sh -c 'sleep 300; : {marker}' >/dev/null 2>&1 & );"
            f"setsid env -i sh -c 'trap : TERM HUP INT; while :; do sleep 0.05; done; : {marker}' & {WELL} {end}",
            timeout_s=1,
        )
        assert time.monotonic() - began < 150
        assert running(marker) == []


def test_a_gigabyte_of_output_costs_no_memory_and_the_trial_goes_on() -> None:
    before = int(Path("/proc/self/statm").read_text().split()[1])
    outcome = shell(f"{WELL} head -c 1000000000 /dev/zero; echo; yes | head -c 100000000; echo end; exit 2")
    grown_pages = int(Path("/proc/self/statm").read_text().split()[1]) - before
    assert outcome.error == "sh: exit code 2: its last line was: end"
    assert len(outcome.epochs) == 1
    assert str(outcome.error_detail).endswith("y\nend\n")
    assert len(str(outcome.error_detail)) <= 4000
    assert grown_pages * os.sysconf("SC_PAGE_SIZE") < 30_000_000


def test_an_endless_line_is_dropped_and_what_comes_after_it_is_not() -> None:
    output = Output()
    for _ in range(3 * LINE_BYTES // 1000):
        assert list(output.add("out", b"x" * 1000)) == []
    assert list(output.add("out", b'\n{"epoch": 1}\nrest {')) == [b'{"epoch": 1}\n']
    assert output.tail().endswith("xx\nrest {")
    assert len(output.tail()) <= 4000
    with pytest.raises(ReportError, match="a line that began as a report is longer than 1 MiB"):
        list(Output().add("out", b" {" + b"x" * LINE_BYTES))


def test_a_report_may_come_in_pieces_after_a_progress_bar_and_without_an_end_of_line() -> None:
    output = Output()
    assert list(output.add("out", b'10 %\r20 %\r{"epo')) == []
    assert list(output.add("out", b'ch": 1}\n{"epoch"')) == [b'{"epoch": 1}\n']
    assert list(output.add("out", b": 2}")) == []
    assert list(output.rest()) == [b'{"epoch": 2}']
    assert output.last_line() == "20 %"


# In worker processes. -----------------------------------------------------------------------------------------------


@pytest.fixture
def node() -> Iterator[Node]:
    made = Node(sources={}, telemetry_hz=0.0)
    cores = tuple(sorted(os.sched_getaffinity(0)))[:1]
    try:
        made.launch([Launch(name="0", body="harness.measure:Body", backend="none", cores=cores)])
        made.ready("0")
        yield made
    finally:
        made.stop()


def daemon(marker: str) -> str:
    return f"(setsid sh -c 'sleep 300; : {marker}' >/dev/null 2>&1 & );"


def test_a_program_is_pinned_to_its_workers_cores(node: Node) -> None:
    script = 'import os; print(\'{{"epoch": 1, "cores": %d}}\' % len(os.sched_getaffinity(0)))'
    outcome = node.run("0", a_trial("{python}", "-c", script)).outcome
    assert outcome.error is None
    assert outcome.epochs[0].extra == {"cores": 1}


def test_a_worker_outlives_a_program_whose_time_is_up_and_runs_the_next(node: Node) -> None:
    done = node.run("0", a_trial("sh", "-c", "echo waiting; sleep 300", timeout_s=1.5))
    assert (done.outcome.status, done.outcome.error_detail, done.alive) == ("timeout", "waiting\n", True)
    again = node.run("0", a_trial("sh", "-c", WELL)).outcome
    assert (again.status, again.facts.worker_trials_before) == ("completed", 1)


@pytest.mark.parametrize("how", ["killed", "died", "stopped"])
def test_a_worker_that_is_gone_takes_its_program_with_it(node: Node, how: str) -> None:
    marker = f"harness-worker-{how}-{os.getpid()}"
    worker = node._workers["0"]
    trial = a_trial("sh", "-c", f"{daemon(marker)} {WELL} sleep 300; : {marker}")
    worker.connection.send(("run", (trial, None)))
    worker.connection.recv()  # its epoch
    wait_for(marker, 2)
    if how == "killed":
        worker.kill()
    elif how == "died":
        os.kill(worker.pid, 9)
        worker.wait_gone()
        node.ready("0")
    else:
        node.stop()
    wait_for(marker, 0)


def wait_for(marker: str, count: int) -> None:
    deadline = time.monotonic() + 60
    while len(running(marker)) != count and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(running(marker)) == count


def test_the_end_of_a_program_is_noticed_at_once_and_not_at_the_next_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program_run, "_FIRST_POLL_S", 200.0)
    began = time.monotonic()
    assert shell(f"{WELL} exec >/dev/null 2>&1; sleep 0.05").status == "completed"
    assert time.monotonic() - began < 100


# The helper for programs. ---------------------------------------------------------------------------------------------


def test_the_helper_prints_plain_lines_outside_the_harness_and_knows_no_trial() -> None:
    code = "import numpy; from harness.progress import report; report(loss=numpy.float32(0.5)); print(report.trial())"
    clean = {name: value for name, value in os.environ.items() if name != "HARNESS_TRIAL"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=clean)
    first, second = done.stdout.splitlines()
    assert json.loads(first) == {"epoch": 1, "loss": 0.5}
    assert second == "{}"


def test_the_helper_brings_the_standard_library_alone() -> None:
    code = (
        "import time, json, sys; began = time.process_time(); import harness.progress; "
        "print(time.process_time() - began, *{'pydantic', 'numpy', 'psutil'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    (took_s,) = done.stdout.split()
    assert float(took_s) < 0.5  # 0.02 s as a rule


def test_a_program_may_hold_its_lines_back_if_it_states_its_own_times() -> None:
    lines = "".join(f'{{{{"epoch": {n}, "train_s": 0.2}}}}\\n' for n in (1, 2, 3))
    outcome = shell(f"sleep 0.7; printf '{lines}'")
    assert outcome.error is None
    assert [epoch.train_s for epoch in outcome.epochs] == [0.2, 0.2, 0.2]
    assert outcome.watches.build_s >= 0  # not below: what was taken for building at first has been given back


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{{"epoch": 2, "loss": ', "begins as a report does is no JSON object; it printed: "),
        ('{{"event": "readdy"}}', "the events are 'ready' and 'evaluating', got 'readdy'"),
    ],
)
def test_a_line_that_was_meant_to_be_a_report_is_not_passed_over(line: str, message: str) -> None:
    outcome = shell(f"{WELL} echo '{line}'")
    assert outcome.status == "failed"
    assert message in str(outcome.error)
    assert len(outcome.epochs) == 1
