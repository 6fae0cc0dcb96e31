"""Suite → a job in Slurm's queue, in which `harness run` goes on with the run that is reserved here."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from harness import __version__
from harness.domain.errors import HarnessError, ResultsError, SuiteError
from harness.domain.naming import plural
from harness.pipeline.planning import make_plan, run_info
from harness.pipeline.request import Request
from harness.plan import Plan, shard
from harness.record import runs, shards
from harness.record.recorder import Recorder
from harness.slurm import client, jobfile, states
from harness.slurm.job import Job
from harness.slurm.jobfile import FOLDER, SCRIPT
from harness.slurm.profile import Profile, with_overrides
from harness.slurm.refusals import UnsureError

_ARRAY: Final = re.compile(r"(\d{1,6})(?:%(\d{1,6}))?")


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A job that is ready to be submitted, with the run that it is to do."""

    job: Job
    results: Path
    trials: int
    info: Mapping[str, Any]  # for run.json; empty where the run is there already
    asked: Mapping[str, Any]  # what the suite was planned with: overrides, where, small
    earlier: tuple[str, ...] = ()  # the run's jobs so far

    @property
    def folder(self) -> Path:
        """The run's, as the user would name it."""
        return runs.run_folder(self.results, self.job.suite, self.job.run_id)


def prepare(
    request: Request,
    profile: Profile,
    *,
    command: Sequence[str],
    options: Sequence[str],
    array: str | None = None,
    name: str | None = None,
) -> Submission:
    """Check a suite and what is asked of Slurm for it, and return the job; nothing is written yet.

    `command` are the words that call the harness on a node, `options` those of `harness run`, without where its
    results go.

    Raises:
        SuiteError: when the suite, or the allocation for it, cannot be.
        SetupError: for a name or a path that cannot be told to Slurm.
    """
    loaded, made = make_plan(request)
    count, limit = (None, None) if array is None else _array(array)
    if count is not None:
        shard(made, 0, count)  # refuses what cannot be split
        if profile.nodes > 1:
            raise SuiteError(
                f"--array: each of its jobs has one node, and nodes is {profile.nodes}, by --nodes or the profile; "
                "add --nodes 1"
            )
    _expect_room(made, profile)
    run_id, cwd = runs.new_run_id(), Path.cwd()
    folder = runs.run_folder(request.results, made.suite.name, run_id)
    words = ["--results", str(request.results), "--run", run_id, *options]
    info = run_info(replace(request, command=("harness", "run", str(request.suite), *words)), loaded, made)
    job = Job(
        version=__version__,
        profile=profile,
        name=made.suite.name if name is None else name,
        suite=made.suite.name,
        suite_file=str(request.suite),
        run_id=run_id,
        folder=folder.absolute(),
        cwd=cwd,
        command=command,
        run_words=(*words, "--resume", "--no-resident"),
        shards=count,
        array=None if count is None else _numbers(range(count), limit),
    )
    return Submission(
        job=job,
        results=request.results,
        trials=len(made.trials),
        info=info | ({"shards": count} if count else {}),
        asked={"overrides": list(request.overrides), "where": list(request.where), "small": request.small},
    )


def _expect_room(made: Plan, profile: Profile) -> None:
    """Raise for trials that the allocation cannot hold."""
    settings = {trial.setting_id: trial.setting for trial in made.trials}.values()
    nodes = max(setting.nodes for setting in settings)
    if nodes > profile.nodes:
        raise SuiteError(f"trials of this suite need nodes={nodes}, and the job has {profile.nodes}: --nodes {nodes}")
    gpus = max(setting.gpus for setting in settings)
    if gpus > profile.gpus:
        has = f"{plural(profile.gpus, 'GPU')} a node" if profile.gpus else "none"
        raise SuiteError(
            f"trials of this suite need gpus={gpus:g}, and the job asks Slurm for {has}: --gpus-per-node {gpus:.0f}"
        )
    cpus = max(setting.cpus for setting in settings)
    if profile.cpus_per_node is not None and cpus > profile.cpus_per_node:
        raise SuiteError(
            f"trials of this suite need cpus={cpus:g}, and the job asks Slurm for {profile.cpus_per_node} a node: "
            f"--cpus-per-node {cpus:.0f}, or leave it away for whole nodes"
        )


def _array(text: str) -> tuple[int, int | None]:
    """Return how many jobs an array has, and how many of them may run at a time."""
    found = _ARRAY.fullmatch(text)
    if found is None or int(found[1]) < 1 or found[2] == "0":
        raise SuiteError(f"--array {text!r}: give a number of jobs, or N%M for at most M of them at a time")
    return int(found[1]), int(found[2]) if found[2] else None


def _numbers(numbers: Iterable[int], limit: int | None) -> str:
    """Return numbers as Slurm takes them for an array: "0-3,7%2"."""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and spans[-1][-1] == number - 1:
            spans[-1][1:] = [number]
        else:
            spans.append([number])
    told = ",".join("-".join(map(str, span)) for span in spans)
    return told + (f"%{limit}" if limit is not None else "")


def submit(submission: Submission) -> str:
    """Reserve the run, if it is new, write the script and hand it to Slurm; return the job's id.

    Raises:
        SetupError: when there is no Slurm, or it refuses; nothing is left behind then. Where it stays open whether the
            job was submitted, the run stays.
        ResultsError: when the results cannot be written, or another process submits the run.
    """
    client.expect_slurm()
    folder, job = submission.folder, submission.job
    if submission.info:
        again = ["harness", "submit", "--again", job.run_id, "--results", str(submission.results)]
        Recorder.reserve(submission.results, suite=job.suite, info=submission.info, run_id=job.run_id, again=again)
    with contextlib.ExitStack() as alone:
        try:
            if submission.info:
                jobfile.write(folder, jobfile.JobFile(request=_request(submission)))
            alone.enter_context(jobfile.submitting(folder))
            job_id = _hand_over(submission)
        except UnsureError:  # the job would need what is there
            raise
        except HarnessError:
            if submission.info:
                shutil.rmtree(folder, ignore_errors=True)
                with contextlib.suppress(OSError):
                    folder.parent.rmdir()  # the suite's, unless it holds other runs
            raise
        try:
            jobfile.add(folder, job_id=job_id, array=job.array)
        except ResultsError as error:
            raise ResultsError(
                f"job {job_id} was submitted and cannot be noted: {error}; scancel {job_id} ends it"
            ) from error
    return job_id


def _hand_over(submission: Submission) -> str:
    """Write the script and submit it, unless another process has submitted the run since; return the job's id."""
    folder, job = submission.folder, submission.job
    if since := jobfile.ids(folder)[len(submission.earlier) :]:
        raise ResultsError(
            f"{folder}: it was submitted meanwhile, as job {', '.join(since)}; `harness status {folder}` shows it"
        )
    script = folder / FOLDER / SCRIPT
    try:
        script.write_text(job.render(), encoding="utf-8")
        script.chmod(0o700)  # values of variables may be secrets
    except OSError as error:
        raise ResultsError(f"{script}: cannot be written ({error.strerror})") from error
    return client.sbatch(script, cwd=job.cwd)


def why_stuck(job_id: str) -> str:
    """Return why a job that Slurm has just taken does not start as things are, as Slurm says; empty if it may."""
    try:
        found = client.jobs([job_id])
    except HarnessError:  # it was taken, and that is what counts
        return ""
    return next((f"{states.told(job)}: {why}" for job in found.values() if (why := states.stuck(job))), "")


def _request(submission: Submission) -> dict[str, Any]:
    """Return what `again` needs to know."""
    job = submission.job
    return {
        "profile": job.profile.model_dump(mode="json", exclude_unset=True),
        "name": job.name,
        "suite": job.suite,
        "suite_file": job.suite_file,
        "run_id": job.run_id,
        "folder": str(job.folder),
        "cwd": str(job.cwd),
        "command": list(job.command),
        "run_words": list(job.run_words),
        "shards": job.shards,
        "array": job.array,
        "trials": submission.trials,
        "asked": submission.asked,
    }


def again(folder: Path, *, retry: str = "", **changed: Any) -> Submission | None:
    """Return the job that goes on with a run that was submitted before; None where nothing is left to do.

    Of an array only the shards that have not ended well are submitted. `changed` are keys of the profile.

    Raises:
        ResultsError: when the run was not submitted, or one of its jobs goes on.
    """
    kept = jobfile.read(folder)
    if kept is None:
        raise ResultsError(f"{folder}: this run was not submitted; go on with it by `harness run … --resume`")
    if jobfile.path(folder).stat().st_uid != os.geteuid():  # it names what is run
        raise ResultsError(f"{folder}: somebody else submitted this run; submit the suite yourself")
    client.expect_slurm()
    going = {job.id: job for job in client.jobs(kept.ids).values() if states.going_on(job.state) and not job.past}
    request = dict(kept.request)
    if going and request["shards"] is None:
        raise ResultsError(_still_there(folder, going))
    _expect_same(folder, request)
    request["profile"] = with_overrides(Profile(**request["profile"]), **changed)
    trials = request.pop("trials")
    words = [*request["run_words"], "--take-over"]  # its jobs are over, as Slurm says
    words += ["--retry", retry] if retry else []
    request |= {
        "version": __version__,
        "run_words": words,
        "folder": Path(request["folder"]),
        "cwd": Path(request["cwd"]),
    }
    if request["shards"] is not None:
        busy = {number for number, job_id in kept.jobs_of_shards.items() if job_id in going}
        bad = [one.number for one in shards.standing(folder) if not one.whole or (retry and one.bad)]
        left = [number for number in bad if number not in busy]
        if bad and not left:
            raise ResultsError(_still_there(folder, going))
        if not left:
            shards.merge(folder, take_over=True)
            return None
        limit = request["array"].partition("%")[2]
        request["array"] = _numbers(left, int(limit) if limit else None)
    elif not retry and _has_ended(runs.read_run(folder)):
        return None
    return Submission(job=Job(**request), results=folder.parents[1], trials=trials, info={}, asked={}, earlier=kept.ids)


def _has_ended(content: Mapping[str, Any]) -> bool:
    """Tell whether a run has nothing left to do, by its run.json."""
    return content["state"] in ("completed", "failed") and not content.get("pending") and "wrong" not in content


def counts(folder: Path) -> Mapping[str, int]:
    """Return how many trials of a run ended as what."""
    return runs.read_run(folder).get("counts") or {}


def _still_there(folder: Path, going: Iterable[str]) -> str:
    ids = sorted(going)
    return (
        f"{folder}: Slurm still has {plural(len(ids), 'job')} of this run ({', '.join(ids[:5])}); wait, or end it with "
        f"`harness stop {folder}`"
    )


def _expect_same(folder: Path, request: dict[str, Any]) -> None:
    """Raise if the suite is not the one that was submitted: the job would refuse it when it starts.

    Raises:
        ResultsError: with the way out.
    """
    asked = request.pop("asked")
    with contextlib.chdir(request["cwd"]):
        _, made = make_plan(Request(suite=Path(request["suite_file"]), **asked))
    if made.sha256 != runs.read_run_file(folder).get("suite_sha256"):
        raise ResultsError(
            f"{request['suite_file']}: the suite has changed since {folder.name} was submitted; undo the change, or "
            "submit the suite as it is for a new run"
        )
