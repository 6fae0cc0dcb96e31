"""How long does an epoch of one small network take on this machine, with and without what slows it? (C)

Each trial has its node to itself, so that no neighbour slows it. On other hardware give the same suite other cores or a
GPU: `--set cpus=2`, `--set gpus=1`.
"""

from _experiments import PART_C, SMALL

from harness import Setting, Suite, cases, dataset, direction, mlp, reference, sgd, test

SIGMOID = "model.activation == 'sigmoid'"
RELU = "model.activation == 'relu' and model.dropout == 0"
CELERON = "Celeron"

suite = Suite(
    name="hardware",
    base=Setting(
        dataset=dataset("mnist", take=6000, scale="standard", held_out=test(take=5000)),
        model=mlp([684, 684]),
        optimizer=sgd(0.01),
        batch_size=128,
        epochs=5,
        exclusive=True,
    ),
    grid=cases(
        {"model.activation": "sigmoid"},
        {"model.activation": "relu"},
        {"model.activation": "relu", "model.dropout": 0.2},
    ),
    repeats=3,
    small={**SMALL, "dataset.held_out": test(take=500)},
    references=[
        reference("C", where=SIGMOID, metric="train_s", epoch="all", value=16, hardware=CELERON, source=PART_C),
        reference("C", where=RELU, metric="train_s", epoch="all", value=14, hardware=CELERON, source=PART_C),
        reference("C", where=RELU, metric="train_s + eval_s", epoch="all", value=20, hardware=CELERON, source=PART_C),
        reference(
            "C", where=SIGMOID, metric="train_s + eval_s", epoch="all", value=26, source=PART_C,
            note="hardware not stated",
        ),
        reference(
            "C", where=SIGMOID, metric="eval_s", epoch="all", value=6, source=PART_C,
            note="hardware not stated",
        ),
        reference(
            "C", where=RELU, metric="60000 / samples_per_s", epoch="all", value=2, hardware="K520", source=PART_C,
            note="60,000 images; which of the networks is not stated",
        ),
        reference("C", where=SIGMOID, metric="val_accuracy", epoch=1, value=0.1412, source=PART_C),
        reference("C", where=SIGMOID, metric="val_loss", epoch=1, value=2.257, source=PART_C),
        direction("C", metric="val_accuracy", epoch=1, higher=RELU, lower=SIGMOID, source=PART_C),
    ],
)  # fmt: skip
