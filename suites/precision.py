"""What does it cost to compute in 16 bits, and to call the program step by step instead of once an epoch?"""

from _experiments import SMALL

from harness import Setting, Suite, mlp, product, sgd

suite = Suite(
    name="precision",
    base=Setting(dataset="mnist", model=mlp(128), optimizer=sgd(0.1), batch_size=128, epochs=5),
    grid=product(precision=["float32", "mixed_bfloat16", "mixed_float16"], dispatch=["epoch", "step"]),
    repeats=3,
    target=0.95,
    small={**SMALL, "target": 0.3},
)
