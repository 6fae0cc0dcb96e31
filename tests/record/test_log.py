from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.domain.errors import ResultsError
from harness.record.log import Damage, LogWriter, encode, scan

_LINES = [
    encode({"kind": "trial", "trial_id": f"{number:012x}"}, {"number": number, "loss": math.nan, "text": "a\tb\n„ü“"})
    for number in range(5)
]


def _writer(path: Path, guard: object = None) -> LogWriter:
    return LogWriter(path, guard=guard or (lambda: None), trials_before=0, way_out="go on")  # type: ignore[arg-type]


def _numbers(path: Path, damages: list[Damage] | None = None) -> list[int]:
    return [entry.body()["number"] for entry in scan(path, damages=damages)]


def test_what_is_written_is_read_back_in_order_with_nan_and_infinities(tmp_path: Path) -> None:
    log = _writer(tmp_path / "log")
    values = [math.nan, math.inf, -math.inf, 0.1, 5e-324, 1.7976931348623157e308, None, "„“\n\t\0'<b>"]
    offsets = [log.write(encode({"kind": "trial"}, {"value": value}), trial=True) for value in values]
    log.close()
    entries = list(scan(tmp_path / "log"))
    assert [entry.offset for entry in entries] == offsets
    assert math.isnan(entries[0].body()["value"])
    assert [entry.body()["value"] for entry in entries[1:]] == values[1:]


def test_a_record_counts_once_it_is_on_disk(tmp_path: Path) -> None:
    log = _writer(tmp_path / "log")
    for line in _LINES:
        log.write(line, trial=True)
    log.flush()
    assert log.trials_safe == 5
    assert (tmp_path / "log").read_bytes() == b"".join(_LINES)
    log.close()


def test_a_record_is_committed_soon_without_being_asked_for(tmp_path: Path) -> None:
    log = _writer(tmp_path / "log")
    log.write(_LINES[0], trial=True)
    log.write(_LINES[1], trial=True)
    deadline = time.monotonic() + 60
    while log.trials_safe < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert log.trials_safe == 2
    log.close()


def test_records_of_several_threads_do_not_mix(tmp_path: Path) -> None:
    log = _writer(tmp_path / "log")

    def write(thread: int) -> None:
        for number in range(50):
            log.write(encode({"kind": "trial"}, {"number": 100 * thread + number}), trial=True)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    damages: list[Damage] = []
    assert sorted(_numbers(tmp_path / "log", damages)) == [
        100 * thread + number for thread in range(4) for number in range(50)
    ]
    assert damages == []


def test_a_cut_off_log_loses_only_its_last_record_wherever_it_is_cut(tmp_path: Path) -> None:
    whole, path = b"".join(_LINES), tmp_path / "log"
    ends = [sum(map(len, _LINES[: count + 1])) for count in range(len(_LINES))]
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        damages: list[Damage] = []
        assert _numbers(path, damages) == list(range(sum(end <= cut for end in ends)))
        assert all(damage.tail for damage in damages)
        assert bool(damages) == (cut not in (0, *ends))


@settings(max_examples=300)
@given(place=st.integers(0, len(b"".join(_LINES)) - 1), mask=st.integers(1, 255))
def test_a_damaged_byte_loses_at_most_its_own_record(
    tmp_path_factory: pytest.TempPathFactory, place: int, mask: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "flipped"
    data = bytearray(b"".join(_LINES))
    data[place] ^= mask
    path.write_bytes(data)
    hurt = next(count for count in range(5) if place < sum(map(len, _LINES[: count + 1])))
    damages: list[Damage] = []
    assert _numbers(path, damages) == [number for number in range(5) if number != hurt]
    assert damages
    assert damages[0].offset == sum(map(len, _LINES[:hurt]))
    assert damages[-1].tail == (hurt == 4)


@settings(max_examples=100)
@given(st.binary(max_size=300))
def test_garbage_at_the_end_is_reported_and_loses_nothing(
    tmp_path_factory: pytest.TempPathFactory, garbage: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "garbage"
    path.write_bytes(b"".join(_LINES) + garbage)
    assert _numbers(path) == list(range(5))


def test_damage_in_the_middle_is_reported_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(_LINES[0] + b"x" * 40 + b"\n" + _LINES[1])
    damages: list[Damage] = []
    assert _numbers(path, damages) == [0, 1]
    assert str(damages[0]) == (
        f"{path}: a damaged record at byte {len(_LINES[0])} (41 bytes); the other records are kept"
    )


def test_a_fenced_writer_writes_nothing_more(tmp_path: Path) -> None:
    fenced = threading.Event()

    def guard() -> None:
        if fenced.is_set():
            raise ResultsError("this run now belongs to somebody else")

    log = _writer(tmp_path / "log", guard)
    log.write(_LINES[0], trial=True)
    log.flush()
    fenced.set()
    log.write(_LINES[1], trial=True)
    with pytest.raises(ResultsError, match="somebody else"):
        log.flush()
    with pytest.raises(ResultsError, match="somebody else"):
        log.write(_LINES[2], trial=True)
    log.close()
    assert _numbers(tmp_path / "log") == [0]


_FILL = """
import resource, sys
from pathlib import Path
from harness.domain.errors import ResultsError
from harness.record.log import LogWriter, encode

resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
log = LogWriter(Path(sys.argv[1]), guard=lambda: None, trials_before=7, way_out="free space, then go on")
try:
    for number in range(1000):
        log.write(encode({"kind": "trial"}, {"number": number, "fill": "x" * 100}), trial=True)
        if number % 3 == 0:
            log.flush()
    log.flush()
except ResultsError as error:
    print(log.trials_safe)
    print(error)
log.close()
"""


def test_a_full_disk_stops_with_what_is_safe_and_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "log"
    done = subprocess.run([sys.executable, "-c", _FILL, path], capture_output=True, text=True, check=True)
    safe, message = done.stdout.splitlines()
    assert message.startswith(f"{path}: cannot be written (File too large); {safe} finished trials are safe")
    assert message.endswith("free space, then go on")
    damages: list[Damage] = []
    assert _numbers(path, damages) == list(range(int(safe) - 7))
    assert not damages
    assert path.stat().st_size <= 10_000


def test_a_log_is_never_opened_twice(tmp_path: Path) -> None:
    _writer(tmp_path / "log").close()
    with pytest.raises(ResultsError, match="cannot be created"):
        _writer(tmp_path / "log")


def test_lines_are_plain_ascii_json_after_the_checksum() -> None:
    head, body = _LINES[0][9:].decode("ascii").split("\t", 1)
    assert json.loads(head)["kind"] == "trial"
    assert json.loads(body)["text"] == "a\tb\n„ü“"
