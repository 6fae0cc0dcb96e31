"""A run that measures its nodes' noise floor: every setting under two names."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from harness.domain.errors import SuiteError
from harness.domain.repeats import LABELS, unlabelled
from harness.pipeline.request import Noise, Request
from harness.plan import Plan
from harness.record.recorder import Recorder


def against_itself(request: Request, repeats: int) -> Request:
    """Return the request to run every setting of a suite under two names, `repeats` times each, in the same blocks.

    Raises:
        SuiteError: for a request that names labels or seeds itself, or for a single repeat.
    """
    if repeats < 2:
        raise SuiteError(f"--repeats {repeats}: aa needs at least 2 repeats of each name, A and B, to see them vary")
    for text in request.overrides:
        if text.partition("=")[0].strip() in ("label", "seeds", "repeats"):
            raise SuiteError(f"--set {text!r}: aa chooses labels and seeds itself; say how many repeats with --repeats")
    seeds = ",".join(map(str, range(repeats)))
    own = (f"repeats={repeats}", f"seeds=[{seeds}]", f"label={','.join(LABELS)}")
    return replace(request, overrides=(*own, *request.overrides), noise=True)


def check_pairs(made: Plan) -> None:
    """Raise where a setting cannot be compared with itself, as with a --where that leaves one of its names out."""
    repeats: dict[tuple[str, str], dict[str, set[int]]] = {}
    for trial in made.trials:
        named = repeats.setdefault((trial.setting_id, unlabelled(trial.arm)), {label: set() for label in LABELS})
        named[trial.setting.label].add(trial.repeat)
    fewest = min(len(set.intersection(*named.values())) for named in repeats.values())
    if fewest < 2:
        raise SuiteError(
            f"aa needs at least 2 repeats of each name, {' and '.join(LABELS)}, of every setting; what was asked for "
            f"leaves {fewest} of a setting under both: leave label and seed out of --where"
        )


def measured(recorder: Recorder, made: Plan) -> Noise:
    """Compare each setting with itself, from what is recorded."""
    from harness.analyse.noise import floors, same
    from harness.record.reading import load

    recorder.flush()
    results = load(recorder.folder)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    places = {
        (trial.setting_id, unlabelled(trial.arm)): {path: value for path, value in trial.axes if path != "label"}
        for trial in made.trials
    }
    return Noise(
        floors=floors(results.trials, results.epochs, results.nodes, date=now),
        settings=[  # a run that was resumed with another suite holds settings that have no place in this one
            (one, places.get((one.setting_id, one.arm), {})) for one in same(results.trials, results.epochs)
        ],
    )
