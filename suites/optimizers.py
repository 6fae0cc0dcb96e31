"""Which optimizer reaches 90 % first, each at a few learning rates?"""

from harness import Setting, Suite, mlp, optimizer, product

suite = Suite(
    name="optimizers",
    base=Setting(dataset="mnist5k", model=mlp(128), batch_size=32, epochs=15),
    grid=product(optimizer=["sgd", optimizer("sgd", momentum=0.9, nesterov=True)])
    * product({"optimizer.learning_rate": [0.03, 0.1, 0.3]})
    + product(optimizer=["adam", "rmsprop", "adamw"]) * product({"optimizer.learning_rate": [0.001, 0.003]}),
    repeats=3,
    target=0.90,
    small={"epochs": 2, "repeats": 1, "dataset.take": 1000},
)
