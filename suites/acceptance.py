"""Is each node of the cluster as quick as the others? `harness show` names those that are not.

Every trial runs on every node, alone on it: a training, matrix products that fill a core, and copies that fill the
memory's channels. Under full load: `--set exclusive=false --set repeats=16`. With GPUs: `--set gpus=1`; of one kind of
node: `--set accelerator=A100`.
"""

from harness import Setting, Suite, cases, function, mlp, sgd


def products(trial, recorder, size=1024, times=10):
    import numpy

    matrix = numpy.random.default_rng(0).random((size, size), dtype="float32")
    result = matrix @ matrix  # what is allocated is touched before the clock runs
    for epoch in recorder.epochs():
        with epoch.training():
            for _ in range(times):
                numpy.matmul(matrix, matrix, out=result)
        epoch.report(samples=times)


def copies(trial, recorder, megabytes=256, times=10):
    import numpy

    source = numpy.ones(megabytes * 125_000)
    target = source.copy()
    for epoch in recorder.epochs():
        with epoch.training():
            for _ in range(times):
                numpy.copyto(target, source)
        epoch.report(samples=times)


suite = Suite(
    name="acceptance",
    base=Setting(
        dataset="mnist5k",
        model=mlp([256, 256], activation="relu"),
        optimizer=sgd(0.1),
        batch_size=64,
        epochs=6,
        exclusive=True,
    ),
    grid=cases(
        {"label": "training"},
        {"label": "products", "workload": function(products, size=1024, times=10)},
        {"label": "copies", "workload": function(copies, megabytes=256, times=10)},
    ),
    every_node=True,
    repeats=3,
    timeout="10m",
    small={"epochs": 3},
)
