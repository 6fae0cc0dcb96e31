"""Functions on which methods of minimisation are compared, each with its gradient and where it was published."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Point = NDArray[np.float64]


def beale(p: Point) -> float:
    """E. M. L. Beale, On an iterative method for finding a local minimum of a function of more than one variable,
    Princeton University, 1958. Least at (3, 0.5), where it is 0."""
    x, y = p
    return float((1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2)


def beale_gradient(p: Point) -> Point:
    x, y = p
    a, b, c = 1.5 - x + x * y, 2.25 - x + x * y**2, 2.625 - x + x * y**3
    by_x = 2 * (a * (y - 1) + b * (y**2 - 1) + c * (y**3 - 1))
    by_y = 2 * x * (a + 2 * b * y + 3 * c * y**2)
    return np.array([by_x, by_y])


def himmelblau(p: Point) -> float:
    """D. M. Himmelblau, Applied Nonlinear Programming, McGraw-Hill, 1972. Least at (3, 2) and, to six digits,
    (-2.805118, 3.131313), (-3.779310, -3.283186) and (3.584428, -1.848127), where it is 0."""
    x, y = p
    return float((x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2)


def himmelblau_gradient(p: Point) -> Point:
    x, y = p
    a, b = x**2 + y - 11, x + y**2 - 7
    return np.array([4 * a * x + 2 * b, 2 * a + 4 * b * y])


def rastrigin(p: Point) -> float:
    """L. A. Rastrigin, Systems of Extremal Control, Nauka, 1974; for any dimension as in H. Mühlenbein, M. Schomisch
    and J. Born, The parallel genetic algorithm as function optimizer, Parallel Computing 17, 1991. Least at 0,
    where it is 0, with a local minimum near every point of whole numbers."""
    return float(10 * len(p) + np.sum(p**2 - 10 * np.cos(2 * np.pi * p)))


def rastrigin_gradient(p: Point) -> Point:
    return np.asarray(2 * p + 20 * np.pi * np.sin(2 * np.pi * p))


def rosenbrock(p: Point) -> float:
    """H. H. Rosenbrock, An automatic method for finding the greatest or least value of a function, The Computer
    Journal 3, 1960; for any dimension as the sum over neighbouring coordinates. Least at (1, …, 1), where it is 0."""
    return float(np.sum(100 * (p[1:] - p[:-1] ** 2) ** 2 + (1 - p[:-1]) ** 2))


def rosenbrock_gradient(p: Point) -> Point:
    gradient = np.zeros_like(p)
    beyond = p[1:] - p[:-1] ** 2
    gradient[:-1] = -400 * p[:-1] * beyond - 2 * (1 - p[:-1])
    gradient[1:] += 200 * beyond
    return gradient


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A function to be minimised; `most` is None where it takes points of any dimension from `least`."""

    value: Callable[[Point], float]
    gradient: Callable[[Point], Point]
    least: int
    most: int | None


PROBLEMS: Final = {
    "beale": Problem(value=beale, gradient=beale_gradient, least=2, most=2),
    "himmelblau": Problem(value=himmelblau, gradient=himmelblau_gradient, least=2, most=2),
    "rastrigin": Problem(value=rastrigin, gradient=rastrigin_gradient, least=1, most=None),
    "rosenbrock": Problem(value=rosenbrock, gradient=rosenbrock_gradient, least=2, most=None),
}
