"""Which method finds the minimum of a test function, and on which path? (E1)

An epoch is an iteration: `loss` is the function's value after it, `x0` and `x1` are where it is, `evaluations` what it
has taken so far. `epochs` is the most iterations there can be.
"""

from _experiments import PART_E

from harness import Setting, Suite, adam, cases, minimise, product, reference, rmsprop, sgd

E1 = "workload.problem == 'beale' and workload.method == 'L-BFGS-B'"
STARTS = {"himmelblau": [0, 0], "rosenbrock": [-1.2, 1], "rastrigin": [2.2, -1.7]}
BOUNDED = ["L-BFGS-B", "Nelder-Mead", "Powell", "TNC", "SLSQP"]
FREE = ["BFGS", "CG", "L-BFGS-B", "Nelder-Mead", "Newton-CG"]
OPTIMIZERS = [sgd(0.001), sgd(0.001, momentum=0.9), adam(0.1), rmsprop(0.1)]


def _published(metric, value, tolerance, epoch="last"):
    return reference("E1", where=E1, metric=metric, epoch=epoch, value=value, tolerance=tolerance, source=PART_E)


suite = Suite(
    name="test_functions",
    base=Setting(
        workload=minimise("beale", start=[4, 4], method="L-BFGS-B", bounds=[[-4.5, 4.5], [-4.5, 4.5]]), epochs=300
    ),
    grid=product({"workload.method": BOUNDED})
    + product(workload=[minimise(name, start=start) for name, start in STARTS.items()])
    * product({"workload.method": FREE})
    + cases(
        *(
            {"workload": minimise(name, start=start, optimizer=optimizer)}
            for name, start in STARTS.items()
            for optimizer in OPTIMIZERS
        )
    ),
    small={"grid": product({"workload.method": BOUNDED})},
    references=[
        _published("initial_val_loss", 68_891.203125, 0, epoch=None),
        _published("x0", 3.00000257, 5e-9),
        _published("x1", 0.50000085, 5e-9),
        _published("loss", 2.07e-12, 5e-15),
        _published("epochs_recorded", 14, 0, epoch=None),
        _published("evaluations", 60, 0),
    ],
)
