"""One small training, again and again: the pool of real trials that `measure_noise.py` draws from."""

from harness import Setting, Suite, mlp, sgd

suite = Suite(
    name="one_setting",
    base=Setting(dataset="mnist5k", model=mlp(256), optimizer=sgd(0.1), batch_size=64, epochs=15),
    repeats=200,
)
