"""Which method finds the minimum of a test function, and on which path? (E1)

An epoch is an iteration: `loss` is the function's value after it, `x0` and `x1` are where it is, `evaluations` what it
has taken so far. `epochs` is the most iterations there can be.
"""

from _experiments import PART_E

from harness import Setting, Suite, adam, minimise, product, reference, rmsprop, sgd

E1 = "workload.problem == 'beale' and workload.method == 'L-BFGS-B'"
STARTS = {"himmelblau": [0, 0], "rosenbrock": [-1.2, 1], "rastrigin": [2.2, -1.7]}
BEALE = {"start": [4, 4], "bounds": [[-4.5, 4.5], [-4.5, 4.5]]}
BOUNDED = ["L-BFGS-B", "Nelder-Mead", "Powell", "SLSQP", "TNC"]
FREE = ["BFGS", "CG", "L-BFGS-B", "Nelder-Mead", "Newton-CG"]
OPTIMIZERS = [sgd(0.001), sgd(0.001, momentum=0.9), adam(0.1), rmsprop(0.1)]

beale = [minimise("beale", method=method, **BEALE) for method in BOUNDED]
others = [
    *(minimise(name, start=start, method=method) for name, start in STARTS.items() for method in FREE),
    *(minimise(name, start=start, optimizer=optimizer) for name, start in STARTS.items() for optimizer in OPTIMIZERS),
]


def _published(metric, value, tolerance, epoch="last"):
    return reference("E1", where=E1, metric=metric, epoch=epoch, value=value, tolerance=tolerance, source=PART_E)


suite = Suite(
    name="test_functions",
    base=Setting(epochs=300),
    grid=product(workload=beale + others),
    small={"grid": product(workload=beale)},
    references=[
        _published("initial_val_loss", 68_891.203125, 0, epoch=None),
        _published("x0", 3.00000257, 5e-9),
        _published("x1", 0.50000085, 5e-9),
        _published("loss", 2.07e-12, 5e-15),
        _published("epochs_recorded", 14, 0, epoch=None),
        _published("evaluations", 60, 0),
    ],
)
