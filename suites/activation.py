"""Does a shallow network of raw pixels learn better with sigmoid than with relu? (A3)

With relu it saturates, and then the loss decides: one on clipped probabilities, as the published runs had it, has no
gradient where a probability is clipped, while the one on logits goes on learning.
"""

from _experiments import PART_A, RAW_PIXELS, SMALL

from harness import Setting, Suite, direction, mlp, product, reference, sgd, zipped

LOSSES = ["categorical_crossentropy", "clipped_categorical_crossentropy"]
CLIPPED = f"loss == {LOSSES[1]!r}"
RELU = f"model.activation == 'relu' and {CLIPPED}"
SIGMOID = f"model.activation == 'sigmoid' and {CLIPPED}"

suite = Suite(
    name="activation",
    base=Setting(dataset=RAW_PIXELS, model=mlp(128), optimizer=sgd(0.01), batch_size=32, epochs=10),
    grid=zipped({"model.activation": ["relu", "sigmoid"], "optimizer.learning_rate": [0.001, 0.01]})
    * product(loss=LOSSES),
    repeats=3,
    small=SMALL,
    references=[
        reference("A3", where=RELU, metric="val_accuracy", epoch="last", value=0.685, tolerance=0.05, source=PART_A),
        reference(
            "A3", where=SIGMOID, metric="val_accuracy", epoch="last", value=0.9187, tolerance=0.05, source=PART_A
        ),
        *(
            direction(
                "A3",
                metric="val_accuracy",
                epoch="last",
                higher=f"model.activation == 'sigmoid' and loss == {loss!r}",
                lower=f"model.activation == 'relu' and loss == {loss!r}",
                source=PART_A,
            )
            for loss in LOSSES
        ),
    ],
)
