"""The options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RunNames = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RUN]…",
        help="Runs: a folder (all runs in it), an id, SUITE/ID, or a suite's name (its latest run); the latest run if "
        "left out.",
    ),
]
SuiteFile = Annotated[Path, typer.Argument(metavar="SUITE", help="The suite's Python file.", show_default=False)]
Results = Annotated[Path, typer.Option("--results", metavar="DIR", help="Where runs are written and found.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE[,VALUE…]",
        help="Replace a value or an axis, e.g. optimizer.learning_rate=0.1,0.01.",
    ),
]
Where = Annotated[
    list[str] | None,
    typer.Option("--where", metavar="EXPRESSION", help="Only these trials, e.g. 'batch_size >= 32 and seed == 0'."),
]
Small = Annotated[bool, typer.Option("--small", help="The suite's small variant: seconds instead of minutes.")]
Check = Annotated[
    bool, typer.Option("--check", help="Exit with 1 unless the published values that can be judged are reproduced.")
]
Discard = Annotated[
    str | None,
    typer.Option("--discard", metavar="WARNING[,…]", help="Leave out trials with these warnings, e.g. throttled."),
]
Target = Annotated[
    str | None,
    typer.Option("--target", metavar="TARGET", help="Instead of the suite's: 0.9 or 'val_loss <= 0.4'."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs; everything else goes to standard error.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the latest unfinished run of this suite.")]
RunId = Annotated[str | None, typer.Option("--run", metavar="RUN", help="The new run's id; with --resume: which run.")]
Shard = Annotated[
    str | None,
    typer.Option("--shard", metavar="K/N", help="With --run and --resume: every N-th of its trials alone, K from 0."),
]
Force = Annotated[bool, typer.Option("--force", help="With --resume: although the suite changed since.")]
TakeOver = Annotated[
    bool, typer.Option("--take-over", help="With --resume: although its owner on another host may live.")
]
Workers = Annotated[int | None, typer.Option("--workers", min=1, metavar="N", help="At most so many workers a node.")]
FreshWorkers = Annotated[bool, typer.Option("--fresh-workers", help="A new worker process for each trial.")]
Retry = Annotated[
    str,
    typer.Option(
        "--retry",
        metavar="STATUS,…",
        help="One more attempt for trials that end failed, timeout or lost; with --resume for those recorded so.",
    ),
]
MaxFail = Annotated[
    int | None, typer.Option("--max-fail", min=1, metavar="N", help="Stop once so many trials have not completed.")
]
Budget = Annotated[str | None, typer.Option("--budget", metavar="TIME", help="Start no trial after so long, e.g. 30m.")]
Patience = Annotated[
    str,
    typer.Option(
        "--patience", metavar="TIME", help="Wait so long for a node where none is left that can run what is left."
    ),
]
Address = Annotated[
    str | None,
    typer.Option("--address", metavar="HOST:PORT", help="Join this Ray cluster instead of starting Ray here."),
]
NoResident = Annotated[
    bool, typer.Option("--no-resident", help="On workers of its own, also where `harness up` keeps some.")
]
SkipBadNodes = Annotated[
    bool, typer.Option("--skip-bad-nodes", help="With --address: begin without the nodes that cannot be used.")
]
ExpectNodes = Annotated[
    int | None,
    typer.Option("--expect-nodes", min=1, metavar="N", help="With --address: wait until so many nodes are there."),
]
ExpectWithin = Annotated[
    str, typer.Option("--expect-within", metavar="TIME", help="With --expect-nodes: for so long at most.")
]
NodesLog = Annotated[Path | None, typer.Option("--nodes-log", hidden=True)]
Inline = Annotated[bool, typer.Option("--inline", help="In this process, without Ray: for debugging.")]
Telemetry = Annotated[
    float, typer.Option("--telemetry", min=0, max=50, metavar="HZ", help="Hardware readings a second; 0: none.")
]
Calibrate = Annotated[
    bool,
    typer.Option(
        "--calibrate/--no-calibrate",
        help="Measure first what the cores and the back end can do: about a second for each kind of worker.",
    ),
]


def listed(*given: str | None) -> list[str]:
    """Return the names that an option gives, joined by commas or several times, each once; an empty one is a name too,
    for whoever knows the names to refuse."""
    return list(dict.fromkeys(name.strip() for text in given if text is not None for name in text.split(",")))
