"""What is checked before a cluster and its nodes are used."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from harness.cli.node import node, node_command
from harness.domain.errors import SetupError
from harness.schedule import join, ray_environment


def about(off_s: float = 0.0, **other: str) -> dict[str, Any]:
    return {"unix_s": 1000.0 + off_s, "identity": join.identity() | other}


def problem(told: dict[str, Any]) -> str:
    return join.problem(told, asked_at=999.9, answered_at=1000.1) or ""


def test_a_node_like_this_one_is_used() -> None:
    assert problem(about()) == ""
    assert join.doubt(about(), asked_at=999.9, answered_at=1000.1) is None


def test_a_node_with_other_versions_is_refused_and_both_are_named() -> None:
    told = problem(about(Python="3.12.1"))
    assert "Python 3.12.1 there" in told
    assert f"{join.identity()['Python']} here" in told
    assert "Ray 2.9.0 there" in problem(about(Ray="2.9.0"))
    assert "harness 9.9 there" in problem(about(harness="9.9"))


def test_a_node_whose_package_has_other_files_is_refused_though_the_version_is_the_same() -> None:
    assert "harness's files" in problem(about(**{"harness's files": "0123456789ab"}))


def test_a_node_whose_clock_is_an_hour_off_is_refused() -> None:
    assert "1.0 h ahead of" in problem(about(3600))
    assert "1.0 h behind" in problem(about(-3600))


def test_a_clock_that_is_seconds_off_is_doubted_and_a_long_round_trip_proves_nothing() -> None:
    assert "5 s ahead" in (join.doubt(about(5), asked_at=999.9, answered_at=1000.1) or "")
    assert join.doubt(about(5), asked_at=990.0, answered_at=1010.0) is None
    assert problem(about(5)) == ""


def test_nothing_that_listens_is_told_apart_from_what_is_no_ray() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"

        def answer() -> None:
            connection, _ = server.accept()
            connection.recv(100)
            connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(SetupError, match="is no Ray"):
            join.probe(address)
    with pytest.raises(SetupError, match="nothing answers there"):
        join.probe(address)
    with pytest.raises(SetupError, match="no HOST:PORT"):
        join.probe("somewhere")


def test_a_listener_that_says_nothing_is_not_waited_for_and_listens_all_the_same() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(SetupError, match="is no Ray"):
            join.probe(address, within_s=0.2)
        assert join.listens(address, within_s=0.2)
    assert not join.listens(address, within_s=0.2)


def test_a_cluster_without_a_token_is_refused_with_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="openssl rand"):
        ray_environment.expect_token({"HOME": str(tmp_path)})
    empty = tmp_path / "token"
    empty.touch()
    with pytest.raises(SetupError, match="is empty"):
        ray_environment.expect_token({"RAY_AUTH_TOKEN_PATH": str(empty)})
    empty.write_text("secret")
    ray_environment.expect_token({"RAY_AUTH_TOKEN_PATH": str(empty)})
    ray_environment.expect_token({"RAY_AUTH_TOKEN": "secret"})
    assert list(tmp_path.iterdir()) == [empty]


def test_times_can_be_set_otherwise_and_authentication_cannot() -> None:
    made = ray_environment.cluster({"RAY_health_check_period_ms": "500", "RAY_AUTH_MODE": "disabled"})
    assert made["RAY_health_check_period_ms"] == "500"
    assert made["RAY_AUTH_MODE"] == "token"


def test_a_head_is_started_with_its_labels_and_ports() -> None:
    words = node_command(ip="10.0.0.1", head=True, port=6400, labels=["rack=a,zone=b"], num_cpus=4, ports="20000-20100")
    told = " ".join(words)
    assert told.startswith("start --block --node-ip-address 10.0.0.1 ")
    assert "--head --port 6400" in told
    assert "--labels rack=a,zone=b --num-cpus 4" in told
    assert "--node-manager-port 20000 --object-manager-port 20001" in told
    assert told.endswith("--min-worker-port 20006 --max-worker-port 20100")


def test_a_node_is_called_as_it_was_named() -> None:
    told = " ".join(node_command(ip="10.0.0.1", head=True, name="n1", labels=[]))
    assert "--node-name n1" in told


def test_a_node_without_an_address_or_beside_slurms_word_is_refused() -> None:
    with pytest.raises(SetupError, match="--ip IP is missing"):
        node(head=True)
    with pytest.raises(SetupError, match="Slurm says all else"):
        node(slurm=True, name="n1")


def test_a_step_that_cannot_start_its_node_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"SLURMD_NODENAME": "n2", "SLURM_NODEID": "0", "SLURM_JOB_ID": "12", "HARNESS_SLURM_PORT": "20012"}
    told |= {"HARNESS_SLURM_ADDRESSES": "n2=192.0.2.1", "CUDA_VISIBLE_DEVICES": "", "HARNESS_GPUS": ""}
    monkeypatch.delenv("SLURM_CPUS_ON_NODE", raising=False)
    for name, value in {**told, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SetupError, match=r"node n2: its address 192\.0\.2\.1: this machine has no such"):
        node(slurm=True)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"head": False}, "either the first"),
        ({"ip": "a; rm -rf"}, "is no IP address"),
        ({"name": "n 1"}, "a name is of letters"),
        ({"labels": ["rack"]}, "is no NAME=VALUE"),
        ({"labels": ["rack=a=b"]}, "letters, digits"),
        ({"labels": ["rack=a b"]}, "letters, digits"),
        ({"labels": ["ray.io/node-id=1"]}, "Ray's own"),
        ({"temp_dir": Path("/tmp") / ("x" * 50)}, "at most 43"),
        ({"ports": "80-90"}, "is no FIRST-LAST"),
        ({"ports": "20000-20005"}, "at least"),
    ],
)
def test_a_node_that_cannot_be_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(SetupError, match=told):
        node_command(**({"ip": "10.0.0.1", "head": True, "labels": []} | options))


def test_a_head_whose_port_somebody_has_is_refused_before_ray_starts() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(SetupError, match=r"port \d+, where the others would join, cannot be had .* name another with"),
    ):
        node(ip="127.0.0.1", head=True, port=server.getsockname()[1])
