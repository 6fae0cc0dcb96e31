"""How far does gradient descent with momentum and a decaying rate get on MNIST in 60 epochs? (E2)

The rate falls as 0.1 / (1 + decay · step), with decay = 0.1 / epochs. `--set optimizer.momentum=0,0.5,0.8` compares.
"""

from _experiments import PART_E, SMALL, TWO_BY_64

from harness import Setting, Suite, learning_rate, reference, sgd

EPOCHS = 60
DECAYING = learning_rate("InverseTimeDecay", initial_learning_rate=0.1, decay_steps=1, decay_rate=0.1 / EPOCHS)
NOTE = "on the authors' machine"

suite = Suite(
    name="momentum",
    base=Setting(dataset="mnist", model=TWO_BY_64, optimizer=sgd(DECAYING, momentum=0.8), batch_size=28, epochs=EPOCHS),
    repeats=3,
    small=SMALL,
    references=[
        reference("E2", metric="val_accuracy", epoch=1, value=0.9559, tolerance=0.01, source=PART_E),
        reference("E2", metric="val_accuracy", epoch="last", value=0.9757, tolerance=0.01, source=PART_E),
        reference("E2", metric="val_accuracy", epoch="best", value=0.9768, tolerance=0.01, source=PART_E),
        reference("E2", metric="wall_s", value=152, source=PART_E, note=NOTE),
        reference("E2", metric="user_cpu_s", value=267, source=PART_E, note=NOTE),
        reference("E2", metric="system_cpu_s", value=61, source=PART_E, note=NOTE),
    ],
)
