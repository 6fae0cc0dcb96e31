"""job.json: which jobs were asked for a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.domain.errors import ResultsError
from harness.slurm import jobfile
from harness.slurm.jobfile import JobFile


def test_submissions_are_added_and_what_was_asked_for_stays(tmp_path: Path) -> None:
    assert jobfile.read(tmp_path) is None
    assert not jobfile.submitted(tmp_path)
    assert jobfile.ids(tmp_path) == ()
    jobfile.write(tmp_path, JobFile(request={"nodes": 3, "name": "ü\n"}))
    jobfile.add(tmp_path, job_id="12", array="0-9%2")
    jobfile.add(tmp_path, job_id=None, array="3,7-8")
    jobfile.add(tmp_path, job_id="14", array="3,7-8")
    found = jobfile.read(tmp_path)
    assert found is not None
    assert found.request == {"nodes": 3, "name": "ü\n"}
    assert jobfile.ids(tmp_path) == ("12", "14")
    assert found.submissions[0].script == str(tmp_path / "slurm/job.sh")
    assert [path.name for path in (tmp_path / "slurm").iterdir()] == ["job.json"]


def test_a_shard_belongs_to_the_job_that_it_was_last_submitted_with(tmp_path: Path) -> None:
    jobfile.add(tmp_path, job_id="12", array="0-8:2%2")
    jobfile.add(tmp_path, job_id="14", array="4")
    found = jobfile.read(tmp_path)
    assert found is not None
    assert found.submissions[0].tasks() == {0, 2, 4, 6, 8}
    assert [found.job_of(number) for number in (0, 3, 4)] == ["12_0", None, "14_4"]
    assert set(found.each) == {"12_0", "12_2", "12_4", "12_6", "12_8", "14_4"}


def test_one_process_alone_submits_a_run_and_the_next_one_can_once_it_has(tmp_path: Path) -> None:
    jobfile.write(tmp_path, JobFile())
    refused = pytest.raises(ResultsError, match="another `harness submit` is just submitting this run")
    with jobfile.submitting(tmp_path), refused, jobfile.submitting(tmp_path):
        pass
    with jobfile.submitting(tmp_path):
        pass
    with pytest.raises(ResultsError, match=r"submit\.lock: cannot be made"), jobfile.submitting(tmp_path / "none"):
        pass


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "is damaged"),
        ('{"submissions": [{"job_id": 3}]}', r"is damaged \(submissions\.0\."),
        ('{"version": 2}', "has version 2, and this harness reads versions up to 1"),
        (
            json.dumps({"submissions": [{"job_id": "1", "array": "x", "submitted_at": "", "script": "", "host": ""}]}),
            "is da",
        ),
    ],
)
def test_a_file_that_is_no_good_is_refused_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "slurm").mkdir()
    (tmp_path / "slurm/job.json").write_text(text)
    with pytest.raises(ResultsError, match=rf"slurm/job\.json: {told}"):
        jobfile.read(tmp_path)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "slurm").write_text("a file in its place")
    with pytest.raises(ResultsError, match=r"job\.json: cannot be written"):
        jobfile.write(tmp_path, JobFile())
