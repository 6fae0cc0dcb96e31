"""Which shape of network reaches 90 % first: wide, deep, or convolutional?"""

from harness import Setting, Suite, adam, cases, layer, mlp, product, sequential

convolutional = sequential(
    layer("Reshape", target_shape=[28, 28, 1]),
    layer("Conv2D", filters=8, kernel_size=3, activation="relu"),
    layer("MaxPooling2D", pool_size=2),
    layer("Flatten"),
    layer("Dense", units=10, activation="softmax"),
)

suite = Suite(
    name="architectures",
    base=Setting(dataset="mnist5k", model=mlp(128), optimizer=adam(0.001), epochs=10),
    grid=product({"model.hidden": [32, 128, 512, [64, 64], [128, 64, 32]], "model.activation": ["relu", "tanh"]})
    + cases({"model": convolutional}),
    repeats=3,
    target=0.90,
    small={"epochs": 2, "repeats": 1, "dataset.take": 1000},
)
