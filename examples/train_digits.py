"""Train a classifier by softmax and cross entropy, and hold it against scikit-learn's.

Multinomial logistic regression on one of scikit-learn's own data sets: logits = x W + b, the loss is the mean cross
entropy plus A/2 times the sum of the squares of W. softmax_rs gives the loss and its derivatives, SciPy minimises: by
L-BFGS-B from the gradient, or with --newton by a trust-region Newton method from Hessian-vector products; the Hessian
itself is never built. scikit-learn's LogisticRegression then solves the same problem, and the two have to agree.
"""

from __future__ import annotations

import argparse
import io
import itertools
import math
import os
import platform
import statistics
import sys
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PROGRAM = "train_digits.py"
REQUIREMENTS = "scikit-learn scipy rich"

try:
    import numpy as np
    import numpy.typing as npt
    import rich.box
    import scipy  # type: ignore[import-untyped]  # ships no types
    import sklearn  # type: ignore[import-untyped]  # ships no types
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.table import Table
    from scipy.optimize import minimize  # type: ignore[import-untyped]
    from scipy.special import log_softmax  # type: ignore[import-untyped]
    from sklearn.datasets import load_breast_cancer, load_digits, load_wine  # type: ignore[import-untyped]
    from sklearn.exceptions import ConvergenceWarning  # type: ignore[import-untyped]
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
    from sklearn.model_selection import train_test_split  # type: ignore[import-untyped]
    from sklearn.preprocessing import StandardScaler  # type: ignore[import-untyped]
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # comes with scikit-learn

    import softmax_rs
except ImportError as error:
    remedy = "make demo" if error.name == "softmax_rs" else f"{sys.executable} -m pip install {REQUIREMENTS}"
    print(f"{PROGRAM}: {error}; run: {remedy}", file=sys.stderr)
    raise SystemExit(2) from None
except KeyboardInterrupt:  # the imports take a second or two
    raise SystemExit(130) from None

F64: TypeAlias = npt.NDArray[np.float64]
Labels: TypeAlias = npt.NDArray[np.int64]

LOADERS = {"digits": load_digits, "wine": load_wine, "breast_cancer": load_breast_cancer}
TEST_SHARE = 0.25
TOLERANCE = 1e-6  # both sides stop at a gradient below this; scikit-learn's own default, 1e-4, leaves more than AGREE
AGREE = 1e-4  # the losses may differ by this
PENALTIES = 1e-6, 1e6  # below, the minimum is so flat that TOLERANCE does not tell where it is; above, W is 0
ITERATIONS = 10_000  # far more than any of these penalties needs
PICTURES = (".pdf", ".png", ".svg")  # what matplotlib draws without further programs
ROUNDS = 5  # each side trains so often; the median counts


class UsageError(Exception):
    """What was asked for cannot be done; the message is one line for the user. Exit code 2."""


class Disagreement(Exception):  # noqa: N818  # it is no error of the program, but its verdict
    """The two sides have not found the same minimum; the message is one line for the user. Exit code 1."""


# ---------------------------------------------------------------------------------------------------------------------
# Command line
# ---------------------------------------------------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose complaint is one line, without the usage in front."""

    def error(self, message: str) -> NoReturn:
        """Raise `UsageError` where argparse would print and exit."""
        raise UsageError(f"{message} (see --help)")


def penalty(text: str) -> float:
    """Read the value of --penalty."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    least, most = PENALTIES
    if not (least <= value <= most):  # false for nan as well
        raise argparse.ArgumentTypeError(f"must be a number from {least:g} to {most:g}, got {text!r}")
    return value


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; `UsageError` if it makes no sense."""
    parser = Parser(
        prog=PROGRAM,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="exit codes: 0 done, 1 the two sides disagree, 2 bad input or something missing, 130 interrupted",
    )
    parser.add_argument("--data", choices=LOADERS, default="digits", help="the data set (default: digits)")
    parser.add_argument(
        "--newton",
        action="store_true",
        help="minimise by trust-ncg with Hessian-vector products (scikit-learn: newton-cg) instead of by L-BFGS",
    )
    parser.add_argument(
        "--penalty",
        type=penalty,
        default=1e-3,
        metavar="A",
        help="add A/2 times the sum of the squares of the coefficients to the mean loss (1e-6 to 1e6, default: 1e-3)",
    )
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="OUT.PNG",
        help="also draw the loss curve and a confusion matrix into this file (overwritten; needs matplotlib)",
    )
    return parser.parse_args(arguments)


def check_plot(path: Path) -> None:
    """Refuse a --plot that could not be written, before the work rather than after it."""
    try:
        import_module("matplotlib.figure")  # only --plot needs it
    except ImportError as error:
        raise UsageError(f"--plot: {error}; run: {sys.executable} -m pip install matplotlib") from None
    if path.suffix.lower() not in PICTURES:
        raise UsageError(f"--plot {printable(path)}: the name must end in one of {', '.join(PICTURES)}")
    try:
        if path.is_dir():
            raise UsageError(f"--plot {printable(path)}: is a folder")
        if not path.parent.is_dir():
            raise UsageError(f"--plot {printable(path)}: the folder {printable(path.parent)} does not exist")
        if path.exists() and not os.access(path, os.W_OK):
            raise UsageError(f"--plot {printable(path)}: cannot be written")
    except OSError as problem:  # a name that is too long, a folder that may not be entered
        raise UsageError(f"--plot {printable(path)}: {problem.strerror or problem}") from None
    write_whole(path, b"", keep=False)


def write_whole(path: Path, data: bytes, *, keep: bool = True) -> None:
    """Write a file so that its name never stands for a part of it: a neighbour is written, then takes the name.

    With `keep=False` the neighbour is removed again and the file is as before: this only tries. Asking for permissions
    would not do: they say nothing of a disk that is full or read-only.
    """
    place = Path(os.path.realpath(path))  # of a link the target is replaced, not the link
    beside = place.with_name(f".{os.getpid()}-{place.name}")
    try:
        with beside.open("xb") as file:
            file.write(data)
        if keep:
            beside.replace(place)
    except OSError as problem:
        raise UsageError(f"--plot {printable(path)}: {problem.strerror or problem}") from None
    finally:
        with suppress(OSError):  # it has taken the name, or was never made
            beside.unlink()


def printable(path: Path) -> str:
    r"""Return a file name that is safe to print: a newline becomes \n, an undecodable byte \udcff."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(path))


# ---------------------------------------------------------------------------------------------------------------------
# Data
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Data:
    """One data set in two parts, its features scaled to mean 0 and variance 1 over the part to train on."""

    name: str
    x: F64  # (samples, features), to train on
    y: Labels  # (samples,)
    x_test: F64
    y_test: Labels
    classes: list[str]


def load(name: str) -> Data:
    """Load a data set that scikit-learn carries: nothing is downloaded. The split is the same every time."""
    bunch = LOADERS[name]()
    x, x_test, y, y_test = train_test_split(
        bunch.data, bunch.target, test_size=TEST_SHARE, random_state=0, stratify=bunch.target
    )
    scaler = StandardScaler().fit(x)
    return Data(name, scaler.transform(x), y, scaler.transform(x_test), y_test, [str(c) for c in bunch.target_names])


# ---------------------------------------------------------------------------------------------------------------------
# softmax_rs and scipy.optimize
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fit:
    """Where one side has ended."""

    weights: F64  # (features, classes)
    bias: F64  # (classes,)
    loss: float
    iterations: int
    effort: str  # what it took besides

    def predict(self, x: F64) -> Labels:
        """Return the likeliest class of each row."""
        return np.asarray(np.argmax(x @ self.weights + self.bias, axis=-1))

    def accuracy(self, x: F64, y: Labels) -> float:
        """Return the share of the rows whose likeliest class is the right one."""
        return float(np.mean(self.predict(x) == y))


class Objective:
    """The mean cross entropy and the penalty, as a function of one flat point: the weights, then the bias.

    The two arrays of (samples, classes) are made once. A call computes the logits into one, and softmax_rs the loss
    and in the same pass its gradient by the logits into the other: no probabilities, no one-hot targets, no copies.
    """

    def __init__(self, data: Data, penalty: float) -> None:
        self.x, self.y, self.penalty = data.x, data.y, penalty
        self.shape = data.x.shape[1], len(data.classes)
        self.size = (self.shape[0] + 1) * self.shape[1]
        self.logits: F64 = np.empty((len(data.x), len(data.classes)))
        self.by_logits: F64 = np.empty_like(self.logits)
        self.products = 0  # how many Hessian-vector products were asked for
        self._at: F64 = np.full(self.size, np.nan)  # the point that `logits` belong to

    def split(self, point: F64) -> tuple[F64, F64]:
        """Return the weights and the bias, as views."""
        cut = self.shape[0] * self.shape[1]
        return point[:cut].reshape(self.shape), point[cut:]

    def _linear(self, point: F64, out: F64) -> None:
        weights, bias = self.split(point)
        np.matmul(self.x, weights, out=out)
        out += bias

    def _chain(self, by_logits: F64, weights: F64) -> F64:
        """Carry a derivative by the logits on to the parameters, and add the penalty's, which is linear in them."""
        return np.concatenate([(self.x.T @ by_logits + self.penalty * weights).ravel(), by_logits.sum(axis=0)])

    def _move_to(self, point: F64) -> None:
        if not np.array_equal(point, self._at):
            self._linear(point, self.logits)
            self._at = point.copy()  # SciPy may go on to use the array for another point

    def __call__(self, point: F64) -> tuple[float, F64]:
        """Return the objective and its gradient: what `minimize(jac=True)` wants."""
        self._move_to(point)
        loss, by_logits = softmax_rs.cross_entropy_with_grad(self.logits, self.y, out=self.by_logits)
        weights, _ = self.split(point)
        return float(loss) + self.penalty / 2 * float(np.vdot(weights, weights)), self._chain(by_logits, weights)

    def hessian_product(self, point: F64, direction: F64) -> F64:
        """Return the Hessian at `point` times `direction`.

        The logits are linear in the parameters, so the only second derivative is that of the loss by the logits: along
        with the point a direction moves the logits by x V + c, and what comes back goes through the same chain.
        """
        self._move_to(point)
        self.products += 1
        self._linear(direction, self.by_logits)
        softmax_rs.cross_entropy_hvp(self.logits, self.y, self.by_logits, out=self.by_logits)
        return self._chain(self.by_logits, self.split(direction)[0])


def train(data: Data, penalty: float, *, newton: bool, watch: Callable[[int, float], None] | None = None) -> Fit:
    """Minimise the objective from 0; `Disagreement` if the minimiser gives up.

    `watch` is told the number of the iteration and the objective after it, from iteration 0, the start, on.
    """
    objective = Objective(data, penalty)
    start = np.zeros(objective.size)
    after_iteration = None
    if watch:
        watch(0, objective(start)[0])
        iteration = itertools.count(1)

        def after_iteration(intermediate_result: Any) -> None:  # noqa: ANN401  # the name is SciPy's; it has no types
            watch(next(iteration), float(intermediate_result.fun))

    if newton:
        result = minimize(
            objective,
            start,
            jac=True,
            hessp=objective.hessian_product,
            method="trust-ncg",
            callback=after_iteration,
            options={"gtol": TOLERANCE, "maxiter": ITERATIONS},
        )
        effort = f"{result.nfev} gradients, {objective.products} Hessian products"
    else:
        # ftol and maxls are those of scikit-learn's own call of the same routine.
        options = {
            "gtol": TOLERANCE,
            "ftol": 64 * np.finfo(float).eps,
            "maxiter": ITERATIONS,
            "maxfun": 2 * ITERATIONS,
            "maxls": 50,
        }
        result = minimize(objective, start, jac=True, method="L-BFGS-B", callback=after_iteration, options=options)
        effort = f"{result.nfev} gradients"
    if not result.success:
        raise Disagreement(f"softmax_rs and SciPy did not converge: {result.message}")
    weights, bias = objective.split(result.x)
    return Fit(weights, bias, float(result.fun), int(result.nit), effort)


# ---------------------------------------------------------------------------------------------------------------------
# scikit-learn
# ---------------------------------------------------------------------------------------------------------------------


def objective_by_hand(weights: F64, bias: F64, data: Data, penalty: float) -> float:
    """Return the objective by the plain formula, which shares nothing with softmax_rs."""
    log_p = log_softmax(data.x @ weights + bias, axis=-1)
    loss = -np.mean(np.take_along_axis(log_p, data.y[:, None], axis=-1))
    return float(loss + penalty / 2 * np.sum(weights**2))


def inverse_penalty(data: Data, penalty: float) -> float:
    """Return scikit-learn's C for the same penalty.

    It minimises C times the *sum* of the losses plus 1/2 |w|^2, which is C n times our objective if C = 1/(n A). For
    two classes it has one vector w in a sigmoid. Our best for the same probabilities is W = (-w/2, w/2), where |W|^2
    is only |w|^2 / 2: w costs it twice as much as W costs us, so C is twice as large.
    """
    return (2 if len(data.classes) == 2 else 1) / (len(data.x) * penalty)


def train_rival(data: Data, penalty: float, *, newton: bool) -> Fit:
    """Solve the same problem by scikit-learn, to the same tolerance."""
    model = LogisticRegression(
        C=inverse_penalty(data, penalty),
        solver="newton-cg" if newton else "lbfgs",
        tol=TOLERANCE,
        max_iter=ITERATIONS,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            model.fit(data.x, data.y)
        except ConvergenceWarning as warning:
            raise Disagreement(f"scikit-learn did not converge: {str(warning).splitlines()[0]}") from None
    weights, bias = model.coef_.T, model.intercept_
    if len(bias) == 1:
        weights, bias = np.hstack([-weights, weights]) / 2, np.hstack([-bias, bias]) / 2
    loss = objective_by_hand(weights, bias, data, penalty)
    return Fit(weights, bias, loss, int(np.max(model.n_iter_)), "")


# ---------------------------------------------------------------------------------------------------------------------
# Comparison
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """Both sides, their seconds, and how far apart they are."""

    ours: Fit
    rival: Fit
    our_seconds: float
    rival_seconds: float
    curve: list[float]  # our objective at the start and after each iteration

    @property
    def apart(self) -> float:
        """By how much the losses differ."""
        return abs(self.ours.loss - self.rival.loss)

    @property
    def coefficients_apart(self) -> float:
        """By how much the coefficients differ at most.

        A number added to all of the bias changes no probability and costs no penalty: both are compared with mean 0.
        """
        bias = (self.ours.bias - self.ours.bias.mean()) - (self.rival.bias - self.rival.bias.mean())
        return float(max(np.max(np.abs(self.ours.weights - self.rival.weights)), np.max(np.abs(bias))))


def compare(data: Data, penalty: float, screen: Console, *, newton: bool) -> Comparison:
    """Train both, first to watch, then to take the times; in turns, so that a slow moment hits both.

    On one BLAS thread: NumPy and SciPy each bring a BLAS with threads of its own, and here, where small products of the
    one alternate with vector operations of the other, they wait for each other: ten times as long on two CPUs.
    """
    method = "trust-ncg" if newton else "L-BFGS-B"
    curve: list[float] = []
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with threadpool_limits(1, user_api="blas"), Progress(*columns, console=screen) as progress:
        task = progress.add_task(f"training by {method}", total=None)

        def watch(iteration: int, loss: float) -> None:
            curve.append(loss)
            progress.update(task, description=f"training by {method}: iteration {iteration}, loss {loss:.6f}")

        ours = train(data, penalty, newton=newton, watch=watch)
        progress.update(task, total=1, completed=1)
        task = progress.add_task("taking the times", total=ROUNDS)
        rival = train_rival(data, penalty, newton=newton)
        our_seconds, rival_seconds = [], []
        for done in range(1, ROUNDS + 1):
            start = time.perf_counter()
            train(data, penalty, newton=newton)
            middle = time.perf_counter()
            train_rival(data, penalty, newton=newton)
            rival_seconds.append(time.perf_counter() - middle)
            our_seconds.append(middle - start)
            progress.update(task, completed=done, description=f"taking the times: {done} of {ROUNDS}")
    return Comparison(ours, rival, statistics.median(our_seconds), statistics.median(rival_seconds), curve)


def judge(found: Comparison, data: Data) -> None:
    """Raise `Disagreement` unless both have found the same minimum and classify as well."""
    if not found.apart <= AGREE:  # true for nan as well
        raise Disagreement(
            f"the losses differ by {found.apart:.1e}, more than {AGREE:.0e}:"
            f" softmax_rs {found.ours.loss:.9f}, scikit-learn {found.rival.loss:.9f}"
        )
    ours, rival = (fit.accuracy(data.x_test, data.y_test) for fit in (found.ours, found.rival))
    if ours != rival:
        raise Disagreement(f"the accuracies on the test part differ: softmax_rs {ours:.2%}, scikit-learn {rival:.2%}")


# ---------------------------------------------------------------------------------------------------------------------
# Report
# ---------------------------------------------------------------------------------------------------------------------


def cpu_name() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def versions() -> str:
    """Return the versions that a comparison depends on."""
    named = [
        ("softmax_rs", softmax_rs.__version__),
        ("numpy", np.__version__),
        ("scipy", scipy.__version__),
        ("scikit-learn", sklearn.__version__),
        ("Python", platform.python_version()),
    ]
    return ", ".join(f"{name} {version}" for name, version in named)


def table_of_fits(found: Comparison, data: Data, *, newton: bool) -> Table:
    """Make the table of the two sides."""
    title = f"Training on one thread, median of {ROUNDS} rounds; share of right answers"
    table = Table(title=title, title_justify="left", box=rich.box.SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(("", "ms", "iterations", "loss", "in training", "in test")):
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    methods = ("trust-ncg", "newton-cg") if newton else ("L-BFGS-B", "lbfgs")
    sides = (("softmax_rs", found.ours, found.our_seconds), ("scikit-learn", found.rival, found.rival_seconds))
    for method, (name, fit, seconds) in zip(methods, sides, strict=True):
        table.add_row(
            f"{name}, {method}",
            f"{seconds * 1e3:.1f}",
            str(fit.iterations),
            f"{fit.loss:.9f}",
            f"{fit.accuracy(data.x, data.y):.2%}",
            f"{fit.accuracy(data.x_test, data.y_test):.2%}",
        )
    return table


def draw(path: Path, found: Comparison, data: Data) -> None:
    """Draw the loss curve and the confusion matrix into `path`."""
    from matplotlib.figure import Figure  # noqa: PLC0415  # only --plot needs matplotlib; no pyplot, so no display

    k = len(data.classes)
    figure = Figure(figsize=(12, 5.5), dpi=120, layout="constrained")
    figure.suptitle(f"{data.name}: {len(data.x)} samples to train on, {len(data.x_test)} to test, {k} classes")
    curve, matrix = figure.subplots(1, 2)

    curve.plot(found.curve, color="tab:blue", marker=".", markersize=4, label="softmax_rs + SciPy")
    curve.axhline(found.rival.loss, color="tab:gray", linestyle="--", label=f"scikit-learn: {found.rival.loss:.6f}")
    curve.set(title="Loss", xlabel="iteration", ylabel="mean cross entropy + penalty", yscale="log")
    curve.legend()

    counts = np.zeros((k, k), dtype=int)
    np.add.at(counts, (data.y_test, found.ours.predict(data.x_test)), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    matrix.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for i, j in np.argwhere(counts):
        colour = "white" if shares[i, j] > 0.5 else "black"
        matrix.text(j, i, str(counts[i, j]), ha="center", va="center", color=colour)
    matrix.set_xticks(range(k), data.classes)
    matrix.set_yticks(range(k), data.classes)
    right = found.ours.accuracy(data.x_test, data.y_test)
    matrix.set(title=f"Confusion: {right:.2%} of the test part right", xlabel="class found", ylabel="true class")

    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix.lower().removeprefix("."))
    write_whole(path, picture.getvalue())


# ---------------------------------------------------------------------------------------------------------------------
# The whole
# ---------------------------------------------------------------------------------------------------------------------


def work(arguments: Sequence[str] | None, out: Console, err: Console) -> None:
    """Do what the command line asks for; `UsageError` if that is not possible, `Disagreement` if the sides differ."""
    options = parse(arguments)
    if options.plot:
        check_plot(options.plot)
    data = load(options.data)
    (n, features), k = data.x.shape, len(data.classes)
    out.print(
        f"{data.name}: {n} samples to train on, {len(data.x_test)} to test; {features} features, {k} classes,"
        f" {k * (features + 1)} parameters."
    )
    c = inverse_penalty(data, options.penalty)
    out.print(f"Mean cross entropy + {options.penalty:g}/2 |W|^2; for scikit-learn that is C = {c:.6g}.\n")

    found = compare(data, options.penalty, err, newton=options.newton)
    out.print(table_of_fits(found, data, newton=options.newton))
    out.print(f"softmax_rs, called by SciPy: {found.ours.effort}.")
    alike = int(np.sum(found.ours.predict(data.x_test) == found.rival.predict(data.x_test)))
    out.print(
        f"The losses differ by {found.apart:.1e}, the coefficients by at most {found.coefficients_apart:.1e};"
        f" {alike} of {len(data.x_test)} test samples get the same class."
    )
    out.print(f"{cpu_name()}; softmax_rs: SIMD level {softmax_rs.simd_level()}. {versions()}.", soft_wrap=True)
    if options.plot:  # also of a disagreement: it is then worth a look
        draw(options.plot, found, data)
        out.print(f"Drawn: {printable(options.plot)}", soft_wrap=True)
    judge(found, data)


def console(stream: TextIO) -> Console:
    """Return a console that prints text as it is, and 120 wide where nobody says how wide the reader's screen is."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")  # a name that the terminal's encoding does not have
    width = None if stream.isatty() or "COLUMNS" in os.environ else 120
    return Console(file=stream, width=width, markup=False, emoji=False, highlight=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; return the exit code."""
    try:
        work(arguments, console(sys.stdout), console(sys.stderr))
    except Disagreement as problem:
        print(f"{PROGRAM}: {problem}", file=sys.stderr)
        return 1
    except UsageError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
