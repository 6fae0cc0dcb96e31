"""What do more devices bring to one training: for the same batch, and for a batch that grows with them?

Each batch is split over the devices of a trial (see docs/decisions/data-parallel.md). As it stands they are virtual
ones, made of two cores, which shows what splitting costs rather than what it brings. On GPUs add
`.compute(gpus="devices")` to the grid; on a cluster `--set nodes=2` splits every batch over so many nodes as well, and
`--set nodes=1,2,4` compares them.
"""

from harness import Setting, Suite, dataset, mlp, product, sgd

DEVICES = [1, 2, 4]

strong = product(label=["strong"], devices=DEVICES).compute(batch_size="512")
weak = product(label=["weak"], devices=DEVICES).compute(batch_size="128 * devices * nodes")

suite = Suite(
    name="scaling",
    base=Setting(
        dataset=dataset("mnist", take=57_344),
        model=mlp([512, 512], activation="relu"),
        optimizer=sgd(0.1),
        epochs=5,
        backend="jax",
        cpus=2,
        exclusive=True,
    ),
    grid=strong + weak,
    repeats=3,
    small={"dataset": dataset("mnist5k", take=3584), "model": mlp([256, 256], activation="relu"), "epochs": 3},
)
