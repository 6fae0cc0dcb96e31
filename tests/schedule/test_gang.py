"""What the answers of a gang's members say when they are put together."""

from __future__ import annotations

from scripted import epoch, trial

from harness.domain.outcome import Outcome
from harness.schedule.demand import Demand
from harness.schedule.gang import PEER_GONE, Gang
from harness.schedule.launch import Launch
from harness.schedule.losses import Cause
from harness.schedule.parts import Part
from harness.schedule.protocol import Done, Gone, Worker

MEMBERS = ["gang0.0~1", "gang0.1~1", "gang0.2~1"]


def gang(*answers: Done | Gone) -> Gang:
    demand = Demand.of(trial(nodes=3, backend="jax", batch_size=6))
    return Gang(
        worker=Worker(name="gang0", node="h0", others=("h1", "h2"), demand=demand),
        parts=tuple(Part(node=f"h{n}", share=Launch(name="0", body="", backend="jax")) for n in range(3)),
        members=MEMBERS,
        running=True,
        answers={answer.worker: answer for answer in answers},
    )


def ended(rank: int, status: str = "completed", error: str | None = None, *, cause: Cause = "outside") -> Done:
    outcome = Outcome(status=status, error=error, epochs=(epoch(1),) * (rank + 1))  # type: ignore[arg-type]
    alive = status != "lost"
    return Done(worker=MEMBERS[rank], key=("", ""), attempt=0, outcome=outcome, alive=alive, cause=cause)


def test_what_the_leader_measured_is_the_outcome_and_a_gang_in_step_goes_on() -> None:
    done = gang(ended(1), ended(2), ended(0)).done()
    assert (done.outcome.status, len(done.outcome.epochs), done.alive) == ("completed", 1, True)
    assert done.blamed == ()


def test_a_member_that_ended_because_another_was_gone_is_not_to_blame() -> None:
    done = gang(
        ended(0, "lost", f"exit code 1: {PEER_GONE}"),
        ended(1, "lost", "killed by SIGSEGV", cause="trial"),
        ended(2, "lost", f"exit code 1: {PEER_GONE}"),
    ).done()
    assert (done.outcome.error, done.blamed) == ("process 1 of 3, on node h1: killed by SIGSEGV", ("h1",))
    assert (done.outcome.status, done.cause, done.alive) == ("lost", "trial", False)


def test_where_all_say_that_another_is_gone_it_is_the_one_that_is_silent() -> None:
    done = gang(ended(0, "lost", PEER_GONE), ended(1, "lost", PEER_GONE)).done()
    assert (done.outcome.error, done.blamed) == ("process 2 of 3, on node h2: did not answer", ("h2",))


def test_a_node_that_was_lost_is_to_blame_whatever_the_others_ended_by() -> None:
    lost = Gone(worker=MEMBERS[2], reason="node h2 was lost: Ray has lost it")
    done = gang(ended(0, "lost", "killed by SIGABRT", cause="trial"), lost).done()
    assert (done.outcome.error, done.blamed, done.cause) == ("node h2 was lost: Ray has lost it", ("h2",), "node")


def test_a_failure_of_another_member_than_the_leader_is_told_with_its_place() -> None:
    done = gang(ended(0), ended(1, "failed", "no memory"), ended(2)).done()
    assert (done.outcome.status, done.outcome.error) == ("failed", "process 1 of 3, on node h1: no memory")
    assert not done.alive
