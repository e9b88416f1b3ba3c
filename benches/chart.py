"""Draws docs/speed.svg from docs/speed.json: how many times as long the best rival takes, and where we lose.

make chart       # runs benches/rivals.py first
python benches/chart.py
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import rivals

DOCS = Path(__file__).parents[1] / "docs"
# Losing is red, and has the same hue with `out` and without.
WON, LOST, COPY = {"new": "#9ecae1", "out": "#2171b5"}, {"new": "#fcae91", "out": "#cb181d"}, "#525252"
HEIGHT = 0.38  # of a bar: two of them stand for a shape
AXIS = (0.25, 64)  # beyond it the label tells
COLUMNS = 2


def panel(axes: Axes, op: str, cells: list[dict[str, Any]]) -> None:
    """One function: a pair of bars for each shape."""
    for i, cell in enumerate(cells):
        for way, y in (("new", i - HEIGHT / 2), ("out", i + HEIGHT / 2)):
            times = cell[way]
            rival = rivals.best(times)
            ratio = times[rival] / times[rivals.OURS]
            colour = (WON if ratio >= 1 else LOST)[way]
            axes.barh(y, ratio - 1, HEIGHT * 0.9, left=1, color=colour)
            label = f" {ratio:.2f} {rival}"
            if way == "out":
                label += f", {cell['ulps'][rivals.OURS]:.2g} ULP ({cell['ulps'][rival]:.3g})"
                copy = times["copy"] / times[rivals.OURS]
                axes.plot(copy, y, "D", color=COPY, markersize=3.5)
                ratio = max(ratio, copy * 1.1)  # the label stands clear of the mark
            axes.text(max(ratio, 1), y, label, va="center", fontsize=6.5)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.set_xlim(*AXIS)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_yticks(range(len(cells)), [cell["shape"].replace("axis0:", "axis 0: ") for cell in cells], fontsize=7)
    axes.invert_yaxis()
    axes.tick_params(axis="x", labelsize=7)
    axes.set_title(op, fontsize=9, loc="left")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def draw(run: dict[str, Any]) -> Figure:
    """The whole chart."""
    ops = list(dict.fromkeys(cell["op"] for cell in run["cells"]))
    shapes = len({cell["shape"] for cell in run["cells"]})
    rows = -(-len(ops) // COLUMNS)
    figure = Figure(figsize=(11, 1.3 + rows * (0.6 + 0.34 * shapes)), layout="constrained")
    panels = figure.subplots(rows, COLUMNS, squeeze=False).flat
    for axes, op in zip(panels, [*ops, *[""] * (rows * COLUMNS - len(ops))], strict=True):
        if op:
            panel(axes, op, [cell for cell in run["cells"] if cell["op"] == op])
        else:
            axes.set_axis_off()
    dtypes = ", ".join(sorted({cell["dtype"] for cell in run["cells"]}))
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    figure.suptitle(
        f"Time of the best other library over that of softmax_rs ({dtypes}): above 1 we win, below (red) we lose\n"
        "light: a new array; dark: with `out`; diamond: numpy.copyto of the same array over softmax_rs with `out`\n"
        "ULP: our largest error (and that rival's); that of derivatives in ULP of the largest number of the row",
        fontsize=8.5,
    )
    threads = f"{run['threads']} thread{'s' if run['threads'] > 1 else ''}{', pinned' if run['pinned'] else ''}"
    figure.supxlabel(
        f"{run['cpu']}, {run['simd_level']}, {threads}; {run['system']}, Python {run['python']}; {run['date']}\n"
        f"{versions}",
        fontsize=7,
    )
    return figure


def main() -> int:
    """Reads, draws, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path, default=DOCS / "speed.json", help="default: docs/speed.json")
    parser.add_argument("svg", nargs="?", type=Path, default=DOCS / "speed.svg", help="default: docs/speed.svg")
    options = parser.parse_args()
    # Text stays text, and the same run gives the same file.
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "softmax-rs", "font.family": "sans-serif"})
    draw(json.loads(options.run.read_text())).savefig(options.svg, metadata={"Date": None, "Creator": None})
    print(options.svg)
    return 0


if __name__ == "__main__":
    sys.exit(main())
