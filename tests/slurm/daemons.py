"""A real Slurm on this machine: a controller and several node daemons, in a folder and on loopback ports of their own.

`python tests/slurm/daemons.py` keeps one up until Ctrl-C, and says how to use it.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Self

_SBIN: Final = "/usr/sbin"
_TOOLS: Final = ("slurmctld", "slurmd", "munged")
_CLIENT_S: Final = 60

_CONFIGURATION: Final = """\
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={port}
AuthInfo=socket={folder}/sock/munge,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=500
SchedulerType=sched/builtin
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=1
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
SlurmdTimeout=60
TCPTimeout=10
MessageTimeout=30
KillWait={kill_wait_s}
MinJobAge=3600
MaxArraySize=2001
GresTypes=gpu
NodeName=n[1-{count}] NodeHostname=localhost NodeAddr=127.0.0.[2-{last}] Port=[{first_port}-{last_port}] \
CPUs=4 RealMemory=8000 Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime={grace_s}
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""
KILL_FOR_MEMORY: Final = """\
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill,UsePss
"""


def why_not() -> str:
    """Return why Slurm cannot be started here; empty if it can."""
    missing = [tool for tool in _TOOLS if not Path(_SBIN, tool).exists()]
    missing += [tool for tool in ("sbatch", "srun", "squeue", "setpriv") if shutil.which(tool) is None]
    return f"{', '.join(missing)} missing: Debian's slurm-wlm and munge are needed" if missing else ""


class Slurm:
    """A cluster of nodes n1, n2, … for as long as the context lasts; `environment` makes Slurm's commands mean it.

    `more` are further lines of its configuration.
    """

    def __init__(self, count: int = 4, *, grace_s: int = 8, kill_wait_s: int = 8, more: str = "") -> None:
        self.count = count
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
        self.folder.chmod(0o755)
        self.environment = {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf")}
        self.environment = {name: value for name, value in self.environment.items() if not name.startswith("RAY_")}
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._more = more
        self._times = {"grace_s": grace_s, "kill_wait_s": kill_wait_s}

    def __enter__(self) -> Self:
        try:
            self._configure()
            self._start("munged", *self._munge_words())
            _await(lambda: (self.folder / "sock/munge").exists(), within_s=60)
            self.start_controller()
            for number in range(1, self.count + 1):
                self.start_node(f"n{number}")
            if not _await(lambda: self.says("sinfo", "-h", "-t", "idle", "-o", "%D") == str(self.count), within_s=60):
                raise RuntimeError((self.folder / "log/slurmctld.log").read_text()[-2000:])
        except BaseException:
            self.__exit__()
            raise
        return self

    def _configure(self) -> None:
        for name in ("state", "log", "dev", "sock", *(f"spool/n{number}" for number in range(1, self.count + 1))):
            (self.folder / name).mkdir(parents=True)
        for number in range(2):
            (self.folder / f"dev/gpu{number}").symlink_to("/dev/null")  # which passes for a GPU's device
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        port = _free_ports(self.count + 1)
        values = {"user": getpass.getuser(), "folder": self.folder, "count": self.count, "last": self.count + 1}
        values |= {"port": port, "first_port": port + 1, "last_port": port + self.count, **self._times}
        (self.folder / "slurm.conf").write_text(_CONFIGURATION.format(**values) + self._more)
        gres = f"NodeName=n[1-{self.count}] Name=gpu File={self.folder}/dev/gpu[0-1]\n"
        (self.folder / "gres.conf").write_text(gres)

    def _munge_words(self) -> list[str]:
        at = {"socket": "sock/munge", "key-file": "munge.key", "log-file": "log/munged.log", "pid-file": "munged.pid"}
        at["seed-file"] = "munge.seed"
        return ["-F", "--force", *(f"--{name}={self.folder / path}" for name, path in at.items())]

    def _start(self, name: str, *words: str, program: str | None = None, before: Sequence[str] = ()) -> None:
        command = ["setpriv", "--pdeathsig", "TERM", *before, f"{_SBIN}/{program or name}", *words]
        with (self.folder / "log/daemons.txt").open("ab") as out:
            self._daemons[name] = subprocess.Popen(
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )

    def start_controller(self) -> None:
        self._start("slurmctld", "-D")

    def start_node(self, name: str, *, before: Sequence[str] = ()) -> None:
        """Start a node's daemon; `before` are words that come before its command."""
        self._start(name, "-D", "-N", name, program="slurmd", before=before)

    def kill(self, name: str, by: signal.Signals = signal.SIGKILL) -> None:
        """End a daemon, by its node's name or its own."""
        daemon = self._daemons.pop(name)
        daemon.send_signal(by)
        daemon.wait()

    def run(self, *words: str, timeout_s: float = _CLIENT_S, **how: object) -> subprocess.CompletedProcess[str]:
        """Run a command of Slurm's."""
        options: dict[str, object] = {"env": self.environment, "capture_output": True, "text": True} | how
        return subprocess.run(words, timeout=timeout_s, check=False, **options)  # type: ignore[call-overload, no-any-return]

    def says(self, *words: str) -> str:
        """Return what a command of Slurm's prints."""
        return self.run(*words).stdout.strip()

    def state(self, job: str | int) -> str:
        """Return the state of a job, or of an array's task."""
        return self.says("squeue", "-h", "-t", "all", "-j", str(job), "-o", "%T")

    def __exit__(self, *error: object) -> None:
        if "slurmctld" in self._daemons:
            with contextlib.suppress(subprocess.SubprocessError):
                self.run("scancel", "-u", getpass.getuser(), timeout_s=5)
                _await(lambda: not self.says("squeue", "-h"), within_s=self._times["kill_wait_s"] + 4)
        for name in sorted(self._daemons, key=lambda name: ("munged", "slurmctld").index(name) if "m" in name else -1):
            daemon = self._daemons[name]
            daemon.terminate()
            try:
                daemon.wait(3)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def _free_ports(count: int) -> int:
    """Return the first of so many ports in a row that nobody listens on."""
    for first in range(17000, 19900, 50):  # below those that jobs are given
        with contextlib.ExitStack() as held, contextlib.suppress(OSError):
            for port in range(first, first + count):
                held.enter_context(socket.socket()).bind(("0.0.0.0", port))
            return first
    raise RuntimeError("no ports are free")


def _await(what: object, *, within_s: float) -> bool:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if what():  # type: ignore[operator]
            return True
        time.sleep(0.05)
    return False


def main(arguments: Mapping[str, str] = os.environ) -> None:
    with Slurm(int(arguments.get("NODES", "4"))) as slurm:
        print(f"export SLURM_CONF={slurm.folder}/slurm.conf", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
