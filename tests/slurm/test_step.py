"""A node in a step of a Slurm job: what it is, by its environment, and how it ends. No Slurm, and no Ray."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.domain.errors import SetupError
from harness.processes import alive
from harness.slurm import step
from harness.slurm.step import NodeOptions, of_environment, own_folder, resolved

STEP = {
    "SLURM_JOB_ID": "12",
    "SLURM_NODEID": "1",
    "SLURMD_NODENAME": "n2",
    "SLURM_STEP_NODELIST": "n[1-3]",
    "SLURM_CPUS_ON_NODE": "8",
    "HARNESS_SLURM_ADDRESSES": "n1=10.0.0.1 n2=10.0.0.2 n3=10.0.0.3 ",
    "HARNESS_SLURM_PORT": "20012",
}
JOB_SCRIPT = Path(step.__file__).with_name("job.sh.j2")
_PATIENCE_S = 60.0


def node(more: dict[str, str] | None = None, **options: object) -> NodeOptions:
    return of_environment(STEP | (more or {}), **options)  # type: ignore[arg-type]


def test_a_node_joins_the_first_one_of_its_step_under_slurms_name() -> None:
    made = node()
    assert (made.name, made.ip, made.join) == ("n2", "10.0.0.2", "10.0.0.1:20012")
    assert (made.num_cpus, made.num_gpus) == (8, None)
    assert str(made.temp_dir) == "/tmp/h12.0.1"


def test_the_first_node_is_joined_by_the_others() -> None:
    made = node({"SLURM_NODEID": "0", "SLURMD_NODENAME": "n1"}, port=7000)
    assert (made.ip, made.join, made.port) == ("10.0.0.1", None, 7000)


def test_gpus_are_those_that_slurm_has_granted() -> None:
    assert node({"CUDA_VISIBLE_DEVICES": "0,3"}).num_gpus == 2
    assert node({"CUDA_VISIBLE_DEVICES": ""}).num_gpus == 0


def test_each_start_of_a_job_has_a_folder_of_its_own_in_tmpdir_where_that_is_there_and_short(tmp_path: Path) -> None:
    assert str(node({"SLURM_RESTART_COUNT": "3"}).temp_dir) == "/tmp/h12.3.1"
    assert str(node({"TMPDIR": "/dev/shm"}).temp_dir) == "/dev/shm/h12.0.1"
    for other in ("/gone", str(tmp_path / "a_rather_long_name"), "here"):
        assert str(node({"TMPDIR": other}).temp_dir) == "/tmp/h12.0.1"


def test_a_hosts_name_is_looked_up() -> None:
    made = node(
        {"HARNESS_SLURM_ADDRESSES": "n1=first n2=second"}, resolve={"first": "1.1.1.1", "second": "2.2.2.2"}.get
    )
    assert (made.ip, made.join) == ("2.2.2.2", "1.1.1.1:20012")
    assert resolved("localhost") == "127.0.0.1"
    with pytest.raises(SetupError, match="is not known here"):
        resolved("nowhere.invalid")


def test_a_host_that_has_its_own_name_for_itself_alone_gives_the_address_that_the_others_see() -> None:
    hosts = {"first": "127.0.0.1", "second": "127.0.1.1"}.get
    made = node({"HARNESS_SLURM_ADDRESSES": "n1=first n2=second"}, resolve=hosts)
    assert (made.ip, made.join) == ("127.0.0.1", "127.0.0.1:20012")  # from where this machine would reach the other
    as_it_is = {"n1=127.0.0.1 n2=127.0.1.1": "127.0.1.1", "n2=second": "127.0.1.1"}
    for places, ip in as_it_is.items():
        changed = {"HARNESS_SLURM_ADDRESSES": places, "SLURM_STEP_NODELIST": "n2", "SLURM_NODEID": "0"}
        assert node(changed, resolve=lambda name: hosts(name) or name).ip == ip


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"SLURM_JOB_ID": ""}, "SLURM_JOB_ID is not set; elsewhere use --ip"),
        ({"HARNESS_SLURM_PORT": "many"}, "HARNESS_SLURM_PORT='many' is no number"),
        ({"HARNESS_SLURM_ADDRESSES": "n1=10.0.0.1"}, "does not say where n2 is"),
        ({"HARNESS_SLURM_ADDRESSES": ""}, "it has no node"),
    ],
)
def test_an_environment_that_does_not_say_enough_is_refused(changed: dict[str, str], told: str) -> None:
    with pytest.raises(SetupError, match=told):
        node(changed)


def options(folder: Path) -> NodeOptions:
    return NodeOptions(name="n2", ip="127.0.0.1", join=None, port=1, temp_dir=folder, num_cpus=1, num_gpus=None)


def test_what_earlier_starts_of_the_job_left_is_removed(tmp_path: Path) -> None:
    for name in ("h12.0.1", "h12.1.1", "h12.2.0", "h12.3.1", "h123.0.1", "h12.x.1"):
        (tmp_path / name / "left").mkdir(parents=True)
    with own_folder(options(tmp_path / "h12.2.1")) as made:
        kept = {folder.name for folder in tmp_path.iterdir()}
        assert kept == {"h12.2.0", "h12.2.1", "h12.3.1", "h123.0.1", "h12.x.1"}
        assert made.temp_dir.stat().st_mode & 0o777 == 0o700
    assert not made.temp_dir.exists()


def test_a_folder_that_a_process_lives_in_is_left_to_it(tmp_path: Path) -> None:
    with own_folder(options(tmp_path / "h12.0.1")) as first, own_folder(options(tmp_path / "h12.0.1")) as second:
        assert second.temp_dir.name == "h12.0.1b"
        with own_folder(options(tmp_path / "h12.1.1")):
            assert first.temp_dir.exists()


def test_a_folder_that_was_left_under_the_same_name_is_used_anew(tmp_path: Path) -> None:
    (tmp_path / "h12.0.1" / "left").mkdir(parents=True)
    with own_folder(options(tmp_path / "h12.0.1")) as made:
        assert [folder.name for folder in made.temp_dir.iterdir()] == ["t"]


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="cannot be made"), own_folder(options(tmp_path / "nowhere" / "h12.0.1")):
        pass


# The parent of all that runs on a node. -------------------------------------------------------------------------------

SUPERVISE = """
import sys
from pathlib import Path
from harness.slurm import step
from harness.slurm.step import NodeOptions, own_folder, supervise
folder, script, step._SLOW_START_S = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
made = NodeOptions(name="n2", ip="", join=None, port=1, temp_dir=folder, num_cpus=1, num_gpus=None)
with own_folder(made) as made:
    code = supervise(["bash", "-c", script], made)
sys.exit(code)
"""
# Says where its temporary folder is, and the processes that are to go with it, one of them an orphan.
_FAMILY = 'touch "$TMPDIR/left"; (setsid sleep 600 & echo $! >> pids); sleep 600 & echo $! >> pids; echo up; '


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a supervisor of a script."""
    started: list[subprocess.Popen[str]] = []

    def start(script: str, slow_s: float = 30.0) -> subprocess.Popen[str]:
        made = subprocess.Popen(
            [sys.executable, "-c", SUPERVISE, str(tmp_path / "h12.0.1"), script, str(slow_s)],
            cwd=tmp_path, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        started.append(made)
        assert made.stdout is not None
        assert made.stdout.readline() == "up\n"
        return made

    yield start
    for one in started:
        try:
            one.communicate(timeout=_PATIENCE_S)  # closes its standard input, at which all below it ends
        finally:
            one.kill()


def ended(made: subprocess.Popen[str], *, close: bool) -> tuple[int, str]:
    """Return the exit code, and what was said on standard error."""
    if close:
        assert made.stdin is not None
        made.stdin.close()
        made.stdin = None
    made.wait(_PATIENCE_S)  # `communicate` would let go of it
    _, said = made.communicate(timeout=_PATIENCE_S)
    return made.returncode, said


def nothing_is_left(tmp_path: Path) -> bool:
    pids = [int(line) for line in (tmp_path / "pids").read_text().split()]
    return len(pids) == 2 and not any(map(alive, pids)) and not (tmp_path / "h12.0.1").exists()


Start = Callable[..., subprocess.Popen[str]]


def test_a_node_ends_with_all_below_it_and_well_once_its_script_lets_go(start: Start, tmp_path: Path) -> None:
    made = start(_FAMILY + "wait")
    assert ended(made, close=True) == (0, "")
    assert nothing_is_left(tmp_path)


@pytest.mark.parametrize(("end", "code", "how"), [("exit 3", 3, "ended with exit code 3"), ("exit 0", 1, "code 0"),
                                                  ("kill -9 $$", 137, "killed by SIGKILL")])  # fmt: skip
def test_a_node_whose_ray_ends_says_so_and_cleans_up(
    start: Start, tmp_path: Path, end: str, code: int, how: str
) -> None:
    found, said = ended(start(_FAMILY + end), close=False)
    assert found == code
    assert said.startswith("harness: node n2: its Ray ")
    assert how in said
    assert nothing_is_left(tmp_path)


def test_a_ray_that_gives_up_on_a_slow_start_is_started_once_more(start: Start) -> None:
    found, said = ended(start("echo up; exit 1", slow_s=0.0), close=False)
    first, last = said.splitlines()
    assert first == "node n2: its Ray did not start in time (exit code 1), and is started once more"
    assert (found, last) == (1, "harness: node n2: its Ray ended with exit code 1")


def test_a_node_outlives_the_signal_that_slurm_sends_to_all_and_says_so_once(start: Start, tmp_path: Path) -> None:
    made = start("echo $$ >> bash; " + _FAMILY + "wait")
    (bash,) = map(int, (tmp_path / "bash").read_text().split())
    sleeps = [int(line) for line in (tmp_path / "pids").read_text().split()]
    assert made.stderr is not None
    for pid in (made.pid, bash, *sleeps):
        os.kill(pid, signal.SIGTERM)
    line = made.stderr.readline()
    assert line.startswith("node n2: Slurm tells it to end (SIGTERM)")  # no "harness:", which says of a failure
    os.kill(made.pid, signal.SIGTERM)
    assert all(map(alive, (made.pid, bash, *sleeps)))
    assert ended(made, close=True) == (0, "")
    assert line.partition(": ")[2][:21] in JOB_SCRIPT.read_text()  # what the job's script looks for
