"""Real jobs that cannot be as they were asked for: each is refused, or ends, in words with a way out."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from record.finished import INFO
from slurm.daemons import KILL_FOR_MEMORY, Slurm, why_not
from slurm.fake import COMPLETED, FakeSlurm
from slurm.submitted import HARNESS, LIMIT_S, SUITE, Submitted, harness, submit

from harness.record.recorder import Recorder
from harness.slurm import jobfile
from harness.terminal.slurm import Asker, follow

HUNGRY = Path(__file__).with_name("hungry.py")
PART = ("--cpus-per-node", "1", "--memory", "1000", "--no-calibrate", "--set", "repeats=2", "--set", "epochs=2")
TWO_LINES = "a\n#SBATCH --nodes=100"


Say = Callable[..., Any]


@pytest.fixture
def say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: Say) -> Say:
    """The command line in this very process and a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return say


def expect_refusal(told: Any, *parts: str) -> None:
    """Expect one message and nothing in the results."""
    assert (told.code, told.out) == (2, "")
    assert len(told.err.splitlines()) == 1
    for part in parts:
        assert part in told.err
    assert not list(Path("results").rglob("*"))


# Refused before anything is submitted. ----------------------------------------------------------------------------


def test_without_slurm_or_its_configuration_or_its_controller_nothing_is_left(
    say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, require: Callable[[object, str], None]
) -> None:
    require(not why_not(), why_not())
    path, empty = os.environ["PATH"], tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setenv("PATH", str(empty))
    expect_refusal(say("submit", SUITE), "there is no Slurm here: sbatch is not on the PATH", "`harness run`")
    (empty / "sbatch").symlink_to("/bin/true")
    expect_refusal(say("submit", SUITE), "scontrol is not on the PATH")
    monkeypatch.setenv("PATH", path)
    monkeypatch.delenv("SLURM_CONF", raising=False)
    if not Path("/etc/slurm/slurm.conf").exists():
        expect_refusal(say("submit", SUITE), "no configuration", "SLURM_CONF")
    (tmp_path / "slurm.conf").write_text(
        "ClusterName=test\nSlurmctldHost=localhost(127.0.0.1)\nSlurmctldPort=9\nAuthType=auth/none\n"
    )
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
    expect_refusal(say("submit", SUITE), "Slurm's controller does not answer (", "DOWN", "try again later")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--partition", "man"], ["invalid partition specified: man", "did you mean 'main'?", "main, urgent"]),
        (["--memory", "900G"], ["Memory specification", "--memory", "`sinfo --format"]),
        (["--gpus-per-node", "7"], ["node configuration is not available", "--gpus-per-node"]),
        (["--constraint", "gold"], ["Invalid feature", "--constraint"]),
        (["--reservation", "gold"], ["reservation is invalid", "--reservation"]),
        (["--sbatch=--nodelist=n9"], ["Invalid node name", "`sinfo --Node`"]),
        (["--sbatch=--nosuch=1"], ["unrecognized option '--nosuch=1'", "--sbatch"]),
        (["--array", "2002", "--set", "repeats=2002"], ["Invalid job array", "MaxArraySize", "--array"]),
    ],
)
def test_what_slurm_refuses_is_said_with_what_there_is(
    slurm: Slurm, say: Say, words: list[str], parts: list[str]
) -> None:
    expect_refusal(say("submit", SUITE, *words), "Slurm refuses the job: ", *parts)


def test_an_account_and_a_quality_of_service_that_do_not_exist_are_said_with_how_to_list_those_that_do(
    say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeSlurm.on_path(tmp_path / "bin", monkeypatch)
    for words, refusal in (
        (["--account", "gold"], "Invalid account or account/partition combination specified"),
        (["--qos", "gold"], "Invalid qos specification"),
    ):
        fake.says("sbatch", err=f"sbatch: error: Batch job submission failed: {refusal}\n", code=1)
        expect_refusal(say("submit", SUITE, *words), refusal, words[0], "`sacctmgr show")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--time", "soon"], ["--time soon", "is no time limit; give minutes"]),
        (["--time", "1"], ["the time 0-00:01:00 is not more than warn, 2m", "--warn"]),
        (["--job-name", TWO_LINES], ["the job's name", "newlines", "choose another"]),
        (["--results", TWO_LINES], ["the results folder", "newlines", "choose another"]),
        (["--array", "0"], ["--array '0'", "N%M"]),
        (["--array", "x"], ["--array 'x'", "N%M"]),
        (["--array", "13"], ["13 shards of 12 trials", "at most 12"]),
        (["--array", "2", "--nodes", "2"], ["--array", "nodes is 2", "--nodes 1"]),
        (["--array", "2", "--set", 'repeats="auto"'], ['repeats="auto"', "--set repeats=N"]),
        (["--array", "2", "--set", "every_node=true"], ["every_node", "run it as one"]),
        (["--set", "gpus=1"], ["gpus=1", "--gpus-per-node 1"]),
        (["--set", "cpus=3", "--cpus-per-node", "2"], ["cpus=3", "--cpus-per-node 3"]),
        (["--profile", "a", "--profile", "b"], ["--profile a and b", "submit the suite once for each"]),
        (["--profile", "a"], ["there is no profile 'a'", "looked in slurm"]),
        (["--again", "r"], ["name either a suite, or the run to go on with"]),
        (["--job-name", " "], ["--job-name ' ' is no name; left out, it is the suite's"]),
    ],
)
def test_what_cannot_be_asked_for_is_said_before_slurm_is_asked(say: Say, words: list[str], parts: list[str]) -> None:
    expect_refusal(say("submit", SUITE, *words), *parts)


def test_a_suite_whose_path_would_end_a_line_of_the_script_is_refused(say: Say, tmp_path: Path) -> None:
    suite = tmp_path / "a\nb.py"
    suite.write_text(SUITE.read_text())
    expect_refusal(say("submit", suite), "the suite's path", "newlines")


def test_a_training_over_nodes_needs_them_and_goes_into_no_array(say: Say, tmp_path: Path) -> None:
    suite = tmp_path / "wide.py"
    suite.write_text(
        "from harness import Setting, Suite, mlp\n"
        "suite = Suite(name='wide', base=Setting(dataset='mnist5k', model=mlp(8), backend='jax', epochs=1, nodes=2))\n"
    )
    expect_refusal(say("submit", suite), "nodes=2", "--nodes 2")
    expect_refusal(say("submit", suite, "--array", "1"), "nodes=2", "cannot be in shards")


def test_only_a_run_that_was_submitted_can_be_submitted_again(say: Say, tmp_path: Path) -> None:
    expect_refusal(say("submit", "--again", "r"), "there is no run or suite 'r'", "harness status")
    expect_refusal(say("submit"), "name a suite, or the run to go on with")
    with Recorder.create(tmp_path / "results", suite="s", run_id="r", info=INFO) as recorder:
        recorder.finish("preempted")
    told = say("submit", "--again", "r")
    assert told.code == 2
    assert "this run was not submitted; go on with it by `harness run … --resume`" in told.err
    told = say("submit", "--again", "r", "--profile", "b")
    assert told.code == 2
    assert "--profile: a run goes on with the profile that it was submitted with" in told.err


def test_how_a_job_ended_is_kept_where_slurm_forgets_it_between_two_questions(fake: FakeSlurm, tmp_path: Path) -> None:
    jobfile.add(tmp_path, job_id="12")
    ask = Asker()
    fake.knows(COMPLETED)
    before = ask(tmp_path)
    fake.knows()
    assert ask(tmp_path).jobs == before.jobs != []


def test_a_run_whose_lost_job_the_accounting_alone_remembers_can_be_submitted_again(fake: FakeSlurm, say: Say) -> None:
    assert say("submit", SUITE).code == 0
    fake.says("sbatch", "13\n")
    fake.says("sacct", "12|NODE_FAIL|0:0|0:10|1:00|n1\n")  # Slurm does not start it again: squeue would know it
    told = say("submit", "--again", "paced")
    assert (told.code, told.err) == (0, "")
    assert "submitted job 13" in told.out


# Submitted, and then it cannot be. --------------------------------------------------------------------------------


def test_a_job_for_more_nodes_than_there_are_is_refused_and_one_that_is_held_is_said_not_to_start(
    slurm: Slurm, say: Say
) -> None:
    expect_refusal(say("submit", SUITE, "--nodes", "9"), "partition main has 4 nodes", "--nodes")
    told = say("submit", SUITE, "--sbatch=--hold")
    assert told.code == 0
    assert "it does not start as things are: " in told.err
    assert "take it back with: harness stop" in told.err


def test_a_suite_that_was_edited_before_its_job_began_is_refused(slurm: Slurm, tmp_path: Path) -> None:
    suite = tmp_path / "paced.py"
    suite.write_text(SUITE.read_text())
    run = submit(slurm, *PART, "--sbatch=--hold", cwd=tmp_path, suite=suite)
    told = harness(slurm, "submit", "--again", run.run_id, cwd=tmp_path, code=2)
    assert f"Slurm still has 1 job of this run ({run.job}); wait, or end it with `harness stop" in told.stderr
    suite.write_text(SUITE.read_text() + "\n# one line more\n")
    slurm.run("scontrol", "release", run.job)
    run.ends("FAILED")
    assert "Traceback" not in run.log
    assert "the run ended with exit code 2" in run.log
    assert "the suite has changed since" in run.log


def test_a_first_node_without_the_package_is_named(slurm: Slurm, tmp_path: Path) -> None:
    run = submit(slurm, *PART, "--command", "/nowhere/harness", "--sbatch=--nodelist=n2", cwd=tmp_path)
    run.ends("FAILED")
    assert "there is no /nowhere/harness on n2: name one that all nodes see (--command" in run.log
    assert slurm.says("squeue", "-h", "-t", "all", "-j", run.job, "-O", "exit_code") == str(2 << 8)


@contextmanager
def blind(slurm: Slurm, folders: Mapping[str, Path]) -> Iterator[None]:
    """Have nodes see an empty folder in the place of one that the others see."""
    over = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"']
    with ExitStack() as stack:
        for node, folder in folders.items():
            stack.callback(start_anew, slurm, node)
            start_anew(slurm, node, *over, str(folder))
        yield


def start_anew(slurm: Slurm, node: str, *before: str) -> None:
    log = slurm.folder / f"log/slurmd-{node}.log"
    starts = log.read_text().count("slurmd started")
    slurm.kill(node)
    slurm.start_node(node, before=before)
    Submitted(slurm, slurm.folder, "").waits(lambda: log.read_text().count("slurmd started") > starts)


def test_nodes_that_lack_the_results_or_the_package_or_have_another_version_are_named(
    slurm: Slurm, tmp_path: Path, require: Callable[[object, str], None]
) -> None:
    may = shutil.which("unshare") and subprocess.run(["unshare", "--mount", "true"], check=False).returncode == 0
    require(may, "mounts of one's own need root")
    results, bin_folder, other = tmp_path / "results", tmp_path / "bin", tmp_path / "other"
    results.mkdir()
    bin_folder.mkdir()
    shutil.copytree(Path(__file__).parents[2] / "harness", other / "harness")
    with (other / "harness/__init__.py").open("a") as package:
        package.write("# one line more\n")
    command = bin_folder / "harness"
    command.write_text(
        f'#!/bin/sh\n[ "$SLURMD_NODENAME" != n2 ] || export PYTHONPATH="{other}"\nexec "{HARNESS}" "$@"\n'
    )
    command.chmod(0o755)

    def submitted(nodes: str, *words: str, suite: Path = SUITE) -> subprocess.Popen[str]:
        asked = ["--nodes", str(nodes.count("n")), f"--sbatch=--nodelist={nodes}", "--command", str(command), *words]
        return subprocess.Popen(
            [HARNESS, "submit", str(suite), *PART, "--wait", *asked], cwd=tmp_path, env=slurm.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    with blind(slurm, {"n3": bin_folder, "n4": results}):
        alone, strict = submitted("n4"), submitted("n1,n3,n4")
        lenient = submitted("n1,n2,n3,n4", "--skip-bad-nodes")
        stray = submitted("n3", suite=Path(shutil.copy(SUITE, bin_folder)))
        said = {one: one.communicate(timeout=LIMIT_S)[0] for one in (alone, stray, strict, lenient)}
    assert [one.returncode for one in said] == [2, 2, 2, 0], said.values()
    assert "Traceback" not in "".join(said.values())
    assert "could not open its log on the node (results have to be where all nodes see them" in said[alone]
    assert "probably the nodes do not see this folder" in said[alone]
    assert f"n3 does not see {bin_folder / SUITE.name} of {tmp_path}: the suite has to be where" in said[stray]
    lacking = [f"node n3: there is no {command}", f"node n4: does not see {results}"]
    assert "harness: 1 of 3 nodes have joined" in said[strict]
    assert all(part in said[strict] for part in [*lacking, "--skip-bad-nodes goes on without the others"])
    assert "Trials: 2 completed" in said[lenient]
    (log,) = (path for path in results.glob("paced/*/slurm/job.log") if "exit code 0" in path.read_text())
    text = log.read_text()
    assert "2 of 4 nodes have joined" in text
    assert all(part in text for part in [*lacking, "going on without the others", "node n2 has another version"])


def test_a_job_that_is_killed_for_memory_says_so_and_keeps_what_has_ended(
    say: Say,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    require: Callable[[object, str], None],
) -> None:
    require(not why_not(), why_not())
    words = ["--cpus-per-node", "2", "--memory", "1200", "--set", f"workload.beside={tmp_path}", "--no-calibrate"]
    with Slurm(1, more=KILL_FOR_MEMORY) as slurm:
        monkeypatch.setenv("SLURM_CONF", slurm.environment["SLURM_CONF"])
        run = submit(slurm, *words, cwd=tmp_path, suite=HUNGRY)
        run.waits(lambda: "srun: error: n1: task 0: Killed" in run.log)
        os.kill(json.loads((run.folder / "owner.json").read_text())["pid"], signal.SIGTERM)  # as the job does later
        run.ends("FAILED")
        code = follow(run.folder, as_json=False, pause=lambda seconds: None)  # as --wait does
        texts = [capsys.readouterr().out, say("status", run.folder).out]
    assert code in (1, 75)
    assert "Trials: 1 completed" in texts[0]
    for text in texts:
        assert "killed for want of memory" in text
        assert "ask for more with --memory" in text
        assert "harness submit --again" in text
    assert "Traceback" not in run.log
