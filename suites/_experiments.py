"""What the suites of the published experiments share: their data, their networks, and where they were published.

Every suite that has references has the letter and number of the experiment in each. The full variants of parts A, B, C
and E need MNIST (`harness data` says how to come by it); `--small` needs nothing and takes seconds.
"""

from harness import dataset, direction, fold, initializer, layer, mlp, sequential, tail, zipped

PART_A = "A. Settings of a shallow and a deep network"
PART_B = "B. Five architectures"
PART_C = "C. One network over hardware"
PART_D = "D. Product classification"
PART_E = "E. Optimisation"

# Part A: raw pixels of the first 20,000 training images, the last fifth of them held out.
RAW_PIXELS = dataset("mnist", take=20_000, scale="none", held_out=tail(0.2))

# A3 and A4: each activation with its own rate, on both losses; the published runs had the one on clipped probabilities.
RELU_OR_SIGMOID = zipped({"model.activation": ["relu", "sigmoid"], "optimizer.learning_rate": [0.001, 0.01]})
LOSSES = ["categorical_crossentropy", "clipped_categorical_crossentropy"]


def activated(activation, loss=LOSSES[1]):
    """Which settings: those with this activation and loss."""
    return f"model.activation == {activation!r} and loss == {loss!r}"


def better_on_both_losses(name, activation, than):
    """One activation ends with the higher accuracy than another, whichever the loss."""
    return [
        direction(
            name,
            metric="val_accuracy",
            epoch="last",
            higher=activated(activation, loss),
            lower=activated(than, loss),
            source=PART_A,
        )
        for loss in LOSSES
    ]


# Part D: 93 counts of each product, each standardised by itself; a seventh of each class held out, where the published
# runs took 15 % of all. (The competition's file is in the order of its classes, so its tail would not do.)
PRODUCTS = dataset("products_like", take=61_878, scale="columns", held_out=fold(0, of=7, how="stratified"))
SIGMOID_SOFTMAX = sequential(layer("Dense", units=9, activation="sigmoid"), layer("Softmax"))

# Part E: all of MNIST, pixels / 255, accuracy on the test images.
UNIFORM = initializer("random_uniform", minval=-0.05, maxval=0.05)
TWO_BY_64 = mlp([64, 64], kernel_initializer=UNIFORM)

# What `--small` changes, whatever else a suite changes with it.
SMALL = {"dataset.name": "mnist5k", "dataset.take": 1000, "epochs": 2, "repeats": 1}
