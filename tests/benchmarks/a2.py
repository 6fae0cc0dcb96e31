"""The 12 trials that the side-by-side measurement runs: does a smaller batch learn more in 5 epochs?"""

from harness import Setting, Suite, dataset, mlp, product, sgd, tail

suite = Suite(
    name="a2",
    base=Setting(
        dataset=dataset("mnist", take=20_000, scale="none", held_out=tail(0.2)),
        model=mlp(128, activation="sigmoid"),
        optimizer=sgd(0.01),
        loss="categorical_crossentropy",
        epochs=5,
    ),
    grid=product(batch_size=[128, 64, 32, 16]),
    repeats=3,
    target=0.80,
)
