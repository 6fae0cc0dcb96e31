"""Several hosts on one machine: each has a network, processes, a host name and temporary files of its own.

A host is a network namespace, with a cable (a pair of virtual interfaces) to a switch (a bridge) in one more namespace,
so that nothing is added to the machine's own network. A host is cut off by pulling its cable.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

HARNESS = str(Path(sys.executable).with_name("harness"))
PORT = 6379

# A lost node is noticed after some 3 s, killed or cut off.
FAST = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "2",
    "RAY_grpc_client_keepalive_time_ms": "2000",
    "RAY_grpc_client_keepalive_timeout_ms": "2000",
}

_INIT = """
hostname "$1"; mount -t tmpfs none "$2"; echo up
while :; do wait -n || sleep 1; done
"""  # reaps what is orphaned, as a host's first process must


def why_not() -> str:
    """Return why hosts cannot be made on this machine; empty if they can."""
    missing = [
        tool for tool in ("ip", "nsenter", "unshare", "setpriv", "hostname", "mount") if shutil.which(tool) is None
    ]
    if missing:
        return f"{', '.join(missing)} missing: iproute2 and util-linux are needed to make hosts"
    tried = ["unshare", "--net", "--pid", "--fork", "--mount-proc", "--uts", "true"]
    if os.geteuid() or subprocess.run(tried, capture_output=True, check=False).returncode:
        return "namespaces cannot be made here: hosts need root"
    return ""


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def _remove(of: Callable[[int], bool]) -> None:
    """Remove the networks that these processes made."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=False).stdout
    for line in listed.splitlines():
        made = re.fullmatch(r"h(\d+)(n\d+)?", line.split()[0])
        if made and of(int(made[1])):
            subprocess.run(["ip", "netns", "del", made[0]], capture_output=True, check=False)


class Host:
    """One machine; `name` is its host name."""

    def __init__(self, number: int, *, switch: str, subnet: str, temporary: Path) -> None:
        self.name = f"host{number}"
        self.ip = f"{subnet}.{10 + number}"
        self._switch = switch
        self._temporary = temporary
        self._namespace = f"{switch}n{number}"
        self._cable = f"port{number}"
        _ip("netns", "add", self._namespace)
        _ip("-n", self._namespace, "link", "add", "eth0", "type", "veth", "peer", "name", self._cable, "netns", switch)
        _ip("-n", switch, "link", "set", self._cable, "master", "bridge", "up")
        _ip("-n", self._namespace, "addr", "add", f"{self.ip}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            _ip("-n", self._namespace, "link", "set", device, "up")
        self._boot()

    def _boot(self) -> None:
        inside = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--uts", "bash", "-c", _INIT, "init"]
        command = [
            "setpriv",
            "--pdeathsig",
            "KILL",
            "nsenter",
            f"--net=/run/netns/{self._namespace}",
            *inside,
            self.name,
            str(self._temporary),
        ]
        self._machine = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._machine.stdout is not None
        assert self._machine.stdout.readline() == "up\n"
        children = Path(f"/proc/{self._machine.pid}/task/{self._machine.pid}/children")
        self._init = int(children.read_text().split()[0])
        self.node: subprocess.Popen[Any] | None = None

    def command(self, *words: str) -> list[str]:
        """Return the command that runs these words on this host."""
        return ["nsenter", f"--target={self._init}", "--net", "--pid", "--uts", "--mount", "--", *words]

    def start(
        self, *words: str, environment: Mapping[str, str], log: Path | None = None, **how: Any
    ) -> subprocess.Popen[str]:
        """Start a command on this host, what it says going to the end of `log`, or whither `how` says."""
        # Not what a Ray in this process was given, as other tests have one.
        ours = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        ours["TMPDIR"] = str(self._temporary)
        if log is None:
            return subprocess.Popen(self.command(*words), env={**ours, **environment}, text=True, **how)
        with log.open("a") as out:
            how = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": out} | how
            return subprocess.Popen(self.command(*words), env={**ours, **environment}, text=True, **how)

    def join(self, head: Host, *options: str, environment: Mapping[str, str], log: Path) -> None:
        """Start this host's Ray node by `harness node`: the head, or one that joins it."""
        where = ["--head", "--port", str(PORT)] if head is self else ["--join", f"{head.ip}:{PORT}"]
        words = [HARNESS, "node", *where, "--ip", self.ip, *options]
        self.node = self.start(*words, environment=environment, log=log)

    def answers(self, port: int = PORT, *, within_s: float = 90) -> bool:
        """Whether something listens at a port here; asked on this host, which is as good as from another."""
        ask = ["bash", "-c", f"until (exec 3<>/dev/tcp/{self.ip}/{port}) 2>/dev/null; do sleep 0.1; done"]
        with contextlib.suppress(subprocess.TimeoutExpired):
            return subprocess.run(self.command(*ask), timeout=within_s, check=False).returncode == 0
        return False

    def pull_cable(self) -> None:
        _ip("-n", self._switch, "link", "set", self._cable, "down")

    def plug_cable(self) -> None:
        _ip("-n", self._switch, "link", "set", self._cable, "up")

    def pids(self, title: str) -> list[int]:
        """Return the processes of this host whose command line holds `title`, by their ids on the real machine."""
        try:
            ours = Path(f"/proc/{self._init}/ns/pid").readlink()
        except FileNotFoundError:  # it has crashed
            return []
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                told = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if title in told and (folder / "ns/pid").readlink() == ours:
                    found.append(int(folder.name))
        return sorted(found)

    def kill(self, title: str) -> None:
        """Kill -9 these processes of this host."""
        for pid in self.pids(title):
            os.kill(pid, signal.SIGKILL)

    def crash(self) -> None:
        """End every process of this host at once."""
        self._machine.kill()
        self._machine.wait()
        if self.node is not None:
            self.node.wait()

    def reboot(self) -> None:
        """Bring a crashed host up again; it runs nothing yet."""
        self._boot()


class Hosts:
    """So many hosts on one switch, for as long as the context lasts."""

    def __init__(self, count: int) -> None:
        self._switch = f"h{os.getpid()}"
        self._subnet = f"10.{64 + (os.getpid() >> 8) % 128}.{os.getpid() % 256}"
        self._count = count
        # Where each keeps what is temporary, in its memory: it is gone with the host. Short enough for sockets.
        self._temporary = Path(tempfile.mkdtemp(prefix="h", dir="/tmp"))
        self.hosts: list[Host] = []

    def __enter__(self) -> Self:
        _remove(lambda pid: not Path(f"/proc/{pid}").exists())  # left by a process that was killed
        try:
            _ip("netns", "add", self._switch)
            _ip("-n", self._switch, "link", "add", "bridge", "type", "bridge", "forward_delay", "0")
            _ip("-n", self._switch, "link", "set", "bridge", "up")
            for _ in range(self._count):
                self.add()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __getitem__(self, number: int) -> Host:
        return self.hosts[number]

    def add(self) -> Host:
        """Connect one more host."""
        host = Host(len(self.hosts) + 1, switch=self._switch, subnet=self._subnet, temporary=self._temporary)
        self.hosts.append(host)
        return host

    def __exit__(self, *error: object) -> None:
        for host in self.hosts:
            host.crash()
        _remove(lambda pid: pid == os.getpid())
        self._temporary.rmdir()


def wait_for(what: Any, *, within_s: float = 60, every_s: float = 0.1) -> bool:
    """Whether `what()` comes true in time."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(every_s)
    return False


def start_cluster(hosts: Sequence[Host], *, environment: Mapping[str, str], folder: Path, cpus: int = 2) -> None:
    """Start the Ray node of each host, the first one the head; a log a host in `folder`."""
    head = hosts[0]
    for host in hosts:
        host.join(
            head, "--num-cpus", str(cpus), "--labels", f"rack={host.name}", environment=environment,
            log=folder / f"{host.name}.log",
        )  # fmt: skip
        if host is head:
            assert head.answers(), (folder / f"{head.name}.log").read_text()
