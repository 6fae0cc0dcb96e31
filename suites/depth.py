"""Does a deep network of raw pixels learn better with relu than with sigmoid, against what a shallow one does? (A4)

The two losses are those of `activation.py`.
"""

from _experiments import LOSSES, PART_A, RAW_PIXELS, RELU_OR_SIGMOID, SMALL, activated, better_on_both_losses

from harness import Setting, Suite, mlp, product, reference, sgd

suite = Suite(
    name="depth",
    base=Setting(dataset=RAW_PIXELS, model=mlp([512, 256, 128, 64]), optimizer=sgd(0.01), batch_size=32, epochs=10),
    grid=RELU_OR_SIGMOID * product(loss=LOSSES),
    repeats=3,
    small=SMALL,
    references=[
        reference(
            "A4",
            where=activated("relu"),
            metric="val_accuracy",
            epoch="last",
            value=0.9367,
            tolerance=0.05,
            source=PART_A,
        ),
        reference(
            "A4", where=activated("relu"), metric="accuracy", epoch="last", value=0.9945, tolerance=0.05, source=PART_A
        ),
        reference(
            "A4",
            where=activated("sigmoid"),
            metric="val_accuracy",
            epoch="last",
            value=0.5657,
            tolerance=0.05,
            source=PART_A,
        ),
        *better_on_both_losses("A4", "relu", than="sigmoid"),
    ],
)
