"""Does a smaller batch reach 90 % sooner?"""

from harness import Setting, Suite, mlp, product, sgd

suite = Suite(
    name="batch_size",
    base=Setting(dataset="mnist5k", model=mlp(128, activation="relu"), optimizer=sgd(0.1), epochs=20),
    grid=product(batch_size=[16, 32, 64, 128]),
    repeats=3,
    target=0.90,
    small={"grid": product(batch_size=[32, 128]), "epochs": 3, "repeats": 1, "target": 0.85},
)
