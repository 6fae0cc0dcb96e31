"""Does a shallow network of raw pixels learn better with sigmoid than with relu? (A3)

With relu it saturates, and then the loss decides: one on clipped probabilities, as the published runs had it, has no
gradient where a probability is clipped, while the one on logits goes on learning.
"""

from _experiments import LOSSES, PART_A, RAW_PIXELS, RELU_OR_SIGMOID, SMALL, activated, better_on_both_losses

from harness import Setting, Suite, mlp, product, reference, sgd

suite = Suite(
    name="activation",
    base=Setting(dataset=RAW_PIXELS, model=mlp(128), optimizer=sgd(0.01), batch_size=32, epochs=10),
    grid=RELU_OR_SIGMOID * product(loss=LOSSES),
    repeats=3,
    small=SMALL,
    references=[
        reference(
            "A3",
            where=activated("relu"),
            metric="val_accuracy",
            epoch="last",
            value=0.685,
            tolerance=0.05,
            source=PART_A,
        ),
        reference(
            "A3",
            where=activated("sigmoid"),
            metric="val_accuracy",
            epoch="last",
            value=0.9187,
            tolerance=0.05,
            source=PART_A,
        ),
        *better_on_both_losses("A3", "sigmoid", than="relu"),
    ],
)
