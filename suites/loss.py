"""Does a classifier learn sooner from the cross-entropy than from the squared error of its probabilities? (A1)"""

from _experiments import PART_A, RAW_PIXELS, SMALL

from harness import Setting, Suite, direction, mlp, product, reference, sgd

SQUARED = "loss == 'mean_squared_error'"
CROSS_ENTROPY = "loss == 'categorical_crossentropy'"

suite = Suite(
    name="loss",
    base=Setting(
        dataset=RAW_PIXELS,
        model=mlp(128, activation="sigmoid"),
        optimizer=sgd(0.01),
        batch_size=128,
        epochs=10,
    ),
    grid=product(loss=["mean_squared_error", "categorical_crossentropy"]),
    repeats=3,
    small=SMALL,
    references=[
        reference("A1", where=SQUARED, metric="val_accuracy", epoch=1, value=0.1608, source=PART_A),
        reference("A1", where=SQUARED, metric="val_accuracy", epoch=3, value=0.2627, source=PART_A),
        reference("A1", where=SQUARED, metric="val_accuracy", epoch=10, value=0.4730, source=PART_A),
        reference("A1", where=CROSS_ENTROPY, metric="val_accuracy", epoch=1, value=0.7435, source=PART_A),
        direction("A1", metric="val_accuracy", epoch=1, higher=CROSS_ENTROPY, lower=SQUARED, source=PART_A),
        direction("A1", metric="val_accuracy", epoch="last", higher=CROSS_ENTROPY, lower=SQUARED, source=PART_A),
    ],
)
