"""Rows of logits that are hard to get right: a recipe gives n float64 numbers, which are then rounded to a dtype."""

import numpy as np

from ulps import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, largest


def _normal(scale, offset=0.0):
    return lambda rng, n: rng.normal(0, scale, n) + offset


def _uniform(spread, offset=0.0):
    return lambda rng, n: rng.uniform(-spread, 0, n) + offset


def _magnitudes(rng, n):
    """Logits of both signs and of every magnitude from 1e-30 to 1e3."""
    return rng.choice([-1, 1], n) * 10.0 ** rng.uniform(-30, 3, n)


def _saturated(tail):
    """One logit above all others, which lie `tail` below: p there rounds to 1."""

    def recipe(rng, n):
        row = rng.uniform(-1, 0, n) - tail
        row[rng.integers(n)] = 0
        return row

    return recipe


def _ties(rng, n):
    """Few different values, the maximum many times."""
    return rng.integers(-3, 1, n) * 17.25


def _cancelling(rng, n):
    """Offset such that logsumexp is nearly 0: max + log1p(tail) cancels."""
    row = rng.uniform(-2, 0, n)
    return row - np.log(np.exp(row).sum()) + rng.choice([-1, 1]) * 10.0 ** rng.uniform(-7, 0)


RECIPES = {
    "normal 1": _normal(1),
    "normal 3": _normal(3),
    "normal 30": _normal(30),
    "uniform 80": _uniform(80),
    "uniform 104": _uniform(104),
    "uniform 700": _uniform(700),
    "uniform 1e-30": _uniform(1e-30),
    "uniform 1e-6": _uniform(1e-6),
    "uniform 1e10": _uniform(1e10),
    "uniform 1e30": _uniform(1e30),
    "magnitudes": _magnitudes,
    "offset 17.3": _uniform(40, 17.3),
    "offset -300": _uniform(40, -300),
    "offset 1e4": _uniform(40, 1e4),
    "offset -1.9e5": _uniform(90, -1.9e5),
    "offset 2.1e5": _uniform(90, 2.1e5),
    "offset 4e6": _uniform(90, 4e6),
    "offset 3e9": _uniform(600, 3e9),
    "offset -1e13": _uniform(600, -1e13),
    "offset 1e30": _normal(1e23, 1e30),
    "offset -1e30": _normal(1e23, -1e30),
    "saturated 10": _saturated(10),
    "saturated 40": _saturated(40),
    "saturated 100": _saturated(100),
    "ties": _ties,
    "cancelling": _cancelling,
    "ascending": lambda _, n: np.linspace(-60, 0, n),
    "descending": lambda _, n: np.linspace(9, -95, n),
}

# Temperatures a row can have if T and its logits times T are to stay normal numbers of the dtype.
TEMPERATURES = {
    FLOAT16: (0.03, 0.7, 3.0, 50.0),
    BFLOAT16: (1e-30, 0.03, 0.7, 3.0, 1e30),
    FLOAT32: (1e-30, 1e-5, 0.1, 0.7, 3.0, 1e5, 1e30),
    FLOAT64: (1e-30, 1e-5, 0.1, 0.7, 3.0, 1e5, 1e30),
}


def row(rng, name, n, dtype, temperature=1.0):
    """Return the row of that recipe, times the temperature, rounded to `dtype` and kept finite."""
    bound = largest(dtype)
    return np.clip(RECIPES[name](rng, n) * temperature, -bound, bound).astype(dtype)


def batch(rng, n, dtype, names=tuple(RECIPES), temperatures=(1.0,)):
    """Return (rows, their temperatures): all recipes, each made for every temperature.

    In every second row for T != 1 the logits are not scaled by T: they meet a temperature that is not made for them.
    """
    rows, ts = [], []
    for t in temperatures:
        for i, name in enumerate(names):
            rows.append(row(rng, name, n, dtype, 1.0 if t != 1 and i % 2 else t))
            ts.append(t)
    return np.array(rows, dtype), np.array(ts)
