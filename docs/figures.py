"""Draw the figures of the documentation into docs/figures, or into the folder given: `make figures`.

The same versions give the same bytes: nothing in a figure is random, timed or dated.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import matplotlib as mpl
import mpmath  # type: ignore[import-untyped]  # ships no types
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

import softmax_rs

if TYPE_CHECKING:
    from collections.abc import Callable

Floats: TypeAlias = npt.NDArray[np.floating[Any]]

OURS, NAIVE, OTHER = "tab:blue", "tab:red", "tab:orange"
BITS = 200  # of the exact values: far more than the 1 + 1e-40 of the widest gap needs


def jacobian() -> Figure:
    """Draw the probability of one of two classes with its derivative, and the Jacobian of twelve classes."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    curves, heat = figure.subplots(1, 2)

    gap = np.linspace(-8, 8, 321)
    logits = np.stack([gap, np.zeros_like(gap)], axis=-1)
    along = np.array([1.0, 0.0])  # the direction in which only the first logit moves
    for temperature, style in ((0.5, ":"), (1.0, "-"), (2.0, "--")):
        p = softmax_rs.softmax(logits, temperature=temperature)[:, 0]
        slope = softmax_rs.softmax_jvp(logits, along, temperature=temperature)[:, 0]
        curves.plot(gap, p, style, color=OURS, label=f"p₁ at T = {temperature:g}")
        curves.plot(gap, slope, style, color=NAIVE, label=f"∂p₁/∂x₁ at T = {temperature:g}")
    curves.set(title="Two classes: p₁ and its derivative", xlabel="x₁ - x₂")
    curves.legend(fontsize="small")

    x = np.array([2.0, -1.0, 0.5, 1.6, -0.3, 0.0, 1.2, -2.0, 0.8, 1.9, -0.6, 0.3])
    matrix = softmax_rs.softmax_jacobian(x)
    most = float(np.abs(matrix).max())
    picture = heat.imshow(matrix, cmap="RdBu", vmin=-most, vmax=most, interpolation="none")
    heat.set_xticks(range(len(x)), [f"{v:g}" for v in x], fontsize="small")
    heat.set_yticks(range(len(x)), [f"{v:g}" for v in x], fontsize="small")
    heat.set(title="Twelve classes: the Jacobian diag(p) - p pᵀ", xlabel="logit x of column", ylabel="logit x of row")
    figure.colorbar(picture, ax=heat)
    return figure


def cross_entropy_by_hand(x: Floats) -> Floats:
    """Return the gradient of -log p₁ as everybody writes it."""
    e = np.exp(x - x.max(-1, keepdims=True))
    p = e / e.sum(-1, keepdims=True)
    p[:, 0] -= 1
    return np.asarray(p)


def product_by_hand(x: Floats) -> Floats:
    """Return J g for g = (1, 0) as everybody writes it."""
    e = np.exp(x - x.max(-1, keepdims=True))
    p = e / e.sum(-1, keepdims=True)
    g = np.array([1, 0], dtype=x.dtype)
    return np.asarray(p * (g - (p * g).sum(-1, keepdims=True)))


def cross_entropy_of_ours(x: Floats) -> Floats:
    """Return the gradient of -log p₁."""
    target = np.zeros(len(x), dtype=np.int64)
    return np.asarray(softmax_rs.cross_entropy_with_grad(x, target, reduction="sum")[1])


def product_of_ours(x: Floats) -> Floats:
    """Return J g for g = (1, 0)."""
    return np.asarray(softmax_rs.softmax_vjp(x, np.array([1, 0], dtype=x.dtype)))


def worst(function: Callable[[Floats], Floats], gaps: Floats, exact: Callable[[Any], Any], per: int) -> Floats:
    """Return the largest relative error of the first component over each `per` gaps; 1e-20 for none, for a log axis."""
    found = function(np.stack([gaps, np.zeros_like(gaps)], axis=-1))[:, 0]
    with mpmath.workprec(BITS):
        truth = [exact(mpmath.exp(-mpmath.mpf(float(gap)))) for gap in gaps]
        error = [float(abs(mpmath.mpf(float(f)) / t - 1)) for f, t in zip(found, truth, strict=True)]
    return np.asarray(np.maximum(np.array(error).reshape(-1, per).max(axis=1), 1e-20))


def tail() -> Figure:
    """Draw the relative error of derivatives against the gap between the logits."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    per = 25
    for panel, name in zip(panels, ("float64", "float32"), strict=True):
        dtype = np.dtype(name)
        gaps = np.linspace(0, 60, 120 * per + 1, dtype=dtype)[1:]
        middles = gaps.reshape(-1, per).mean(axis=1)
        for label, colour, style, function, exact in (
            ("by hand: p - 1", NAIVE, "-", cross_entropy_by_hand, lambda s: -s / (1 + s)),
            ("by hand: p (g - ⟨p, g⟩)", OTHER, "--", product_by_hand, lambda s: s / (1 + s) ** 2),
            ("cross_entropy_with_grad", OURS, "-", cross_entropy_of_ours, lambda s: -s / (1 + s)),
            ("softmax_vjp", "tab:cyan", "--", product_of_ours, lambda s: s / (1 + s) ** 2),
        ):
            panel.semilogy(middles, worst(function, gaps, exact, per), style, color=colour, label=label)
        eps = float(np.finfo(dtype).eps)
        panel.axvline(-np.log(eps / 2), color="tab:gray", linewidth=0.8)
        panel.axhline(eps, color="tab:gray", linewidth=0.8)
        panel.set(title=name, xlabel="gap x₁ - x₂ of two logits, the first is the target", ylim=(1e-18, 9))
    panels[0].set_ylabel("largest relative error")
    panels[0].legend(fontsize="small", loc="center right")
    return figure


def main() -> None:
    """Draw all figures."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "figures"
    folder.mkdir(exist_ok=True)
    # Names inside an SVG are random otherwise; text as outlines looks the same everywhere.
    with mpl.rc_context({"svg.hashsalt": "softmax-rs", "svg.fonttype": "path"}):
        for draw in (jacobian, tail):
            draw().savefig(folder / f"{draw.__name__}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
