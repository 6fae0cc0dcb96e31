from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from harness.domain.errors import ResultsError
from harness.record import owner
from harness.record.owner import FILE, Owner, acquire


def _leave(folder: Path, left: Owner) -> None:
    (folder / FILE).write_text(json.dumps(asdict(left)))


def _gone() -> int:
    """Return the id of a process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_a_second_writer_is_refused_with_the_owners_name(tmp_path: Path) -> None:
    held = acquire(tmp_path, attempt=1)
    with pytest.raises(ResultsError, match=rf"belongs to process {os.getpid()} on {socket.gethostname()} \(attempt 1"):
        acquire(tmp_path, attempt=2)
    held.release()
    acquire(tmp_path, attempt=2).release()
    assert not (tmp_path / FILE).exists()


def test_the_owner_of_another_process_is_refused_while_it_lives(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from harness.record.owner import acquire\n"
        "acquire(Path(sys.argv[1]), attempt=1); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        with pytest.raises(ResultsError, match=f"process {child.pid} .*still running"):
            acquire(tmp_path, attempt=2)
        child.kill()
        child.wait()
        taken = acquire(tmp_path, attempt=2)
        assert taken.owner.attempt == 2
        taken.release()


def test_an_owner_of_an_earlier_boot_is_dead(tmp_path: Path) -> None:
    _leave(tmp_path, replace(Owner.here(attempt=1), boot_id="another"))
    acquire(tmp_path, attempt=2).release()


def test_a_later_process_with_the_same_id_is_not_the_owner(tmp_path: Path) -> None:
    me = Owner.here(attempt=1)
    assert me.alive()
    assert replace(me, process_start="1").alive() is False
    assert replace(me, pid=_gone()).alive() is False
    _leave(tmp_path, replace(me, process_start="1"))
    acquire(tmp_path, attempt=2).release()


def test_an_owner_on_another_host_is_refused_unless_taken_over(tmp_path: Path) -> None:
    _leave(tmp_path, replace(Owner.here(attempt=3), host="node17", slurm_job_id="4711"))
    with pytest.raises(ResultsError, match=r"on node17 \(attempt 3, Slurm job 4711\).*--take-over"):
        acquire(tmp_path, attempt=4)
    acquire(tmp_path, attempt=4, take_over=True).release()


def test_an_owner_that_was_taken_over_is_fenced_and_leaves_the_new_one_alone(tmp_path: Path) -> None:
    former = acquire(tmp_path, attempt=1)
    former.check()
    new = acquire(tmp_path, attempt=2, take_over=True)
    with pytest.raises(ResultsError, match=r"now belongs to process .* \(attempt 2\); this process writes nothing"):
        former.check()
    new.check()
    former.release()
    new.check()
    new.release()


def test_an_owner_whose_file_was_removed_is_fenced(tmp_path: Path) -> None:
    held = acquire(tmp_path, attempt=1)
    (tmp_path / FILE).unlink()
    with pytest.raises(ResultsError, match="belongs to nobody"):
        held.check()
    held.release()


def test_an_owner_file_that_was_cut_off_belongs_to_nobody(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"host": "her')
    assert owner.read(tmp_path) is None
    acquire(tmp_path, attempt=1).release()
