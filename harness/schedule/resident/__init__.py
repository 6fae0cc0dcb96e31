"""Workers that outlive a run: `harness up` starts a process that keeps them, `harness run` uses them, `harness down`
ends it.

    place.py      where that process is found, and what it says of itself
    likeness.py   what it must have in common with whoever uses its workers
    control.py    up and down
    server.py     the process itself
    visit.py      one run there
    messages.py   what the two say to one another
    client.py     the `Executor` that has its trials run there
"""
