"""Does a deep network of raw pixels learn better with relu than with sigmoid, against what a shallow one does? (A4)

The two losses are those of `activation.py`.
"""

from _experiments import PART_A, RAW_PIXELS, SMALL

from harness import Setting, Suite, direction, mlp, product, reference, sgd, zipped

LOSSES = ["categorical_crossentropy", "clipped_categorical_crossentropy"]
CLIPPED = f"loss == {LOSSES[1]!r}"
RELU = f"model.activation == 'relu' and {CLIPPED}"
SIGMOID = f"model.activation == 'sigmoid' and {CLIPPED}"

suite = Suite(
    name="depth",
    base=Setting(dataset=RAW_PIXELS, model=mlp([512, 256, 128, 64]), optimizer=sgd(0.01), batch_size=32, epochs=10),
    grid=zipped({"model.activation": ["relu", "sigmoid"], "optimizer.learning_rate": [0.001, 0.01]})
    * product(loss=LOSSES),
    repeats=3,
    small=SMALL,
    references=[
        reference("A4", where=RELU, metric="val_accuracy", epoch="last", value=0.9367, tolerance=0.05, source=PART_A),
        reference("A4", where=RELU, metric="accuracy", epoch="last", value=0.9945, tolerance=0.05, source=PART_A),
        reference(
            "A4", where=SIGMOID, metric="val_accuracy", epoch="last", value=0.5657, tolerance=0.05, source=PART_A
        ),
        *(
            direction(
                "A4",
                metric="val_accuracy",
                epoch="last",
                higher=f"model.activation == 'relu' and loss == {loss!r}",
                lower=f"model.activation == 'sigmoid' and loss == {loss!r}",
                source=PART_A,
            )
            for loss in LOSSES
        ),
    ],
)
