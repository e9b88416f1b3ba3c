"""Say of every file in some folders what it is, and how sure that is.

The network of magika (Google, 214 file types, https://github.com/google/magika) looks at the first and the last bytes
of each file and gives 214 logits. From there on softmax_rs does the work: probabilities at a temperature, the top
labels, the entropy of each file. Then the same logits are a race: softmax_rs against the line of NumPy that everybody
writes by hand, and scipy.special.softmax; in seconds, and in units in the last place (ULP) from the exact result.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import math
import os
import platform
import stat
import statistics
import sys
import sysconfig
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

PROGRAM = "classify_files.py"
REQUIREMENTS = "magika onnx onnxruntime scipy rich"

try:
    import magika
    import numpy as np
    import numpy.typing as npt
    import onnx
    import onnxruntime  # type: ignore[import-untyped]  # ships no types
    import rich.box
    import scipy.special  # type: ignore[import-untyped]  # ships no types
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Table

    import softmax_rs
except ImportError as error:
    remedy = "make demo" if error.name == "softmax_rs" else f"{sys.executable} -m pip install {REQUIREMENTS}"
    print(f"{PROGRAM}: {error}; run: {remedy}", file=sys.stderr)
    raise SystemExit(2) from None
except KeyboardInterrupt:  # the imports take a second
    raise SystemExit(130) from None

F32: TypeAlias = npt.NDArray[np.float32]
F64: TypeAlias = npt.NDArray[np.float64]

BATCH = 16  # files per run of the network: its activations stay in the L2 cache; 128 at a time were a quarter slower
RACE_ROWS = 10_000  # fewer logits than this are repeated for the race: a call should take milliseconds
RACE_ROUNDS = 24  # a multiple of the orders that three (6) or four (24) entrants can start in
NAMED = 5  # how many of the unreadable files are named


class UsageError(Exception):
    """What was asked for cannot be done; the message is one line for the user. Exit code 2."""


# ---------------------------------------------------------------------------------------------------------------------
# Command line
# ---------------------------------------------------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose complaint is one line, without the usage in front."""

    def error(self, message: str) -> NoReturn:
        """Raise `UsageError` where argparse would print and exit."""
        raise UsageError(f"{message} (see --help)")


def positive_int(text: str) -> int:
    """Read the value of --top, --show or --limit."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return value


def positive_float(text: str) -> float:
    """Read the value of --temperature."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (0.0 < value < math.inf):  # false for nan as well
        raise argparse.ArgumentTypeError(f"must be a positive finite number, got {text!r}")
    return value


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; `UsageError` if it makes no sense."""
    parser = Parser(
        prog=PROGRAM,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="exit codes: 0 done, 2 bad input or something missing, 130 interrupted",
    )
    parser.add_argument(
        "folders",
        metavar="FOLDER",
        nargs="*",
        type=Path,
        help="folders to look through, with all below them; links to folders are not followed"
        " (default: the standard library and the site-packages of this Python)",
    )
    parser.add_argument("--top", type=positive_int, default=3, metavar="K", help="labels per file (default: 3)")
    parser.add_argument(
        "--temperature",
        type=positive_float,
        default=1.0,
        metavar="T",
        help="divide the logits by T: above 1 the probabilities get flatter, below 1 sharper (default: 1, as trained)",
    )
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="OUT.PNG",
        help="also draw entropy, probability, reliability and times into this file (overwritten; needs matplotlib)",
    )
    parser.add_argument(
        "--limit",
        type=positive_int,
        metavar="N",
        help="look at N files only, evenly spread over those found (default: all; about 150 a second and core)",
    )
    parser.add_argument(
        "--show", type=positive_int, default=10, metavar="N", help="how many least certain files to list (default: 10)"
    )
    return parser.parse_args(arguments)


def check_plot(path: Path) -> None:
    """Refuse a --plot that could not be written, before the long work rather than after it."""
    try:
        from matplotlib.backend_bases import FigureCanvasBase  # noqa: PLC0415  # only --plot needs matplotlib
    except ImportError as error:
        raise UsageError(f"--plot: {error}; run: {sys.executable} -m pip install matplotlib") from None
    known = sorted(FigureCanvasBase.get_supported_filetypes())
    if path.suffix.lower().removeprefix(".") not in known:
        raise UsageError(f"--plot {printable(path)}: the name must end in one of .{', .'.join(known)}")
    if path.is_dir():
        raise UsageError(f"--plot {printable(path)}: is a folder")
    if not path.parent.is_dir():
        raise UsageError(f"--plot {printable(path)}: the folder {printable(path.parent)} does not exist")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UsageError(f"--plot {printable(path)}: cannot be written")


# ---------------------------------------------------------------------------------------------------------------------
# Files
# ---------------------------------------------------------------------------------------------------------------------


@dataclass
class Found:
    """What lies in the folders."""

    files: list[Path] = field(default_factory=list)
    unreadable: list[tuple[Path, str]] = field(default_factory=list)  # and the reason
    links: int = 0  # to folders: not followed, so there are no loops
    special: int = 0  # pipes, sockets, devices: not read, a pipe would wait for ever


def default_folders() -> tuple[list[Path], set[Path]]:
    """Return the running Python's own folders, and the folders below them that belong to another environment.

    In a virtual environment the standard library is the parent installation's, and so is the `site-packages` inside it.
    """
    standard, *others = (Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib"))
    folders = [folder for folder in dict.fromkeys([standard, *others]) if folder.is_dir()]
    return folders, {standard / "site-packages", standard / "dist-packages"}.difference(folders)


def find_files(folders: Iterable[Path], skip: Iterable[Path] = ()) -> Found:
    """List the regular files below `folders` in sorted order, each folder once however often it is reached.

    A link to a regular file counts as that file under another name; a link that leads nowhere counts as unreadable.
    """
    found = Found()
    seen = set(skip)

    def folder_fails(problem: OSError) -> None:
        found.unreadable.append((Path(problem.filename), problem.strerror or str(problem)))

    for folder in folders:
        for here, below, names in os.walk(folder, onerror=folder_fails):
            place = Path(here)
            real = place.resolve()
            if real in seen:
                below.clear()
                continue
            seen.add(real)
            below.sort()
            found.links += sum((place / name).is_symlink() for name in below)
            for name in sorted(names):
                path = place / name
                try:
                    mode = path.stat().st_mode
                except OSError as problem:
                    found.unreadable.append((path, problem.strerror or str(problem)))
                    continue
                if stat.S_ISREG(mode):
                    found.files.append(path)
                else:
                    found.special += 1
    return found


def printable(path: Path) -> str:
    r"""Return a file name that is safe to print: a newline becomes \n, an undecodable byte \udcff."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(path))


# ---------------------------------------------------------------------------------------------------------------------
# Network: from files to logits
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Model:
    """magika's network and what belongs to it."""

    name: str
    session: Any  # onnxruntime.InferenceSession
    logits: str  # name of the output with the logits
    own_softmax: str  # name of the output with the network's own softmax
    labels: list[str]
    descriptions: dict[str, str]
    extensions: dict[str, set[str]]  # label -> extensions it is known by, in lower case
    begin: int  # bytes from the begin of a file that the network sees
    end: int  # bytes from its end
    block: int  # bytes read at either end, before white space is stripped
    least: int  # fewer bytes than this are not worth a network
    padding: int  # token for "no byte here"


def load_model() -> Model:
    """Load magika's network with one more output: the logits before its softmax."""
    package = Path(magika.__file__).parent
    folder = package / "models" / "standard_v3_3"
    try:
        config = json.loads((folder / "config.min.json").read_bytes())
        knowledge = json.loads((package / "config" / "content_types_kb.min.json").read_bytes())
        graph_file = onnx.load(folder / "model.onnx")
    except OSError as problem:
        raise UsageError(f"magika {magika.__version__} does not have the model {folder.name}: {problem}") from None
    if config["mid_size"] or config["use_inputs_at_offsets"]:
        raise UsageError(f"magika {magika.__version__} has a model with other inputs than begin and end of a file")

    # The tail of the graph is  x - max(x) -> exp -> divide by the sum = output.  The logits are the x of the last
    # subtraction. (In standard_v3_3 they are called jax2tf_get_logits_/pjit_get_logits_/MagikaV2/Dense_1/AddV2:0.)
    graph = graph_file.graph
    own_softmax = graph.output[0].name
    maker = {output: node for node in graph.node for output in node.output}
    try:
        exp = maker[maker[own_softmax].input[0]]
        subtraction = maker[exp.input[0]]
    except (KeyError, IndexError):
        raise UsageError(f"the model {folder.name} does not end in a softmax") from None
    if (maker[own_softmax].op_type, exp.op_type, subtraction.op_type) != ("Div", "Exp", "Sub"):
        raise UsageError(f"the model {folder.name} does not end in a softmax")
    logits = subtraction.input[0]
    labels = [str(label) for label in config["target_labels_space"]]
    graph.output.append(onnx.helper.make_tensor_value_info(logits, onnx.TensorProto.FLOAT, [None, len(labels)]))

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # several batches run at a time instead, which needs no barriers and no spinning
    options.log_severity_level = 3  # errors only: it warns of absent GPUs
    session = onnxruntime.InferenceSession(graph_file.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return Model(
        name=folder.name,
        session=session,
        logits=logits,
        own_softmax=own_softmax,
        labels=labels,
        descriptions={label: info["description"] or label for label, info in knowledge.items()},
        extensions={label: {e.lower() for e in knowledge[label]["extensions"]} for label in labels},
        begin=config["beg_size"],
        end=config["end_size"],
        block=config["block_size"],
        least=config["min_file_size_for_dl"],
        padding=config["padding_token"],
    )


def look_at(path: Path, model: Model) -> str | npt.NDArray[np.int32]:
    """Return the features of one file for the network, or its label where the network is not asked; `OSError`.

    We follow magika 1.0 (`_get_result_or_features_from_seekable` in its magika.py) to the letter: no bytes are "empty";
    fewer than 8 bytes, or fewer than 8 at the begin once white space is stripped, are "txt" if they decode as UTF-8,
    and "unknown" if not.

    We do not follow it in what comes after the network: magika replaces a label of low probability by "txt" or
    "unknown", and "randomtxt" and "randombytes" always. Here the label is the network's (magika's `prediction.dl`):
    the probabilities are what this example is about.
    """
    with path.open("rb") as file:
        head = file.read(model.block)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - model.block))
        tail = file.read(model.block)
    if size == 0:
        return "empty"
    begin = head.lstrip()[: model.begin]
    end = tail.rstrip()[-model.end :]
    if size < model.least or len(begin) < model.least:
        try:
            head.decode("utf-8")
        except UnicodeDecodeError:
            return "unknown"
        return "txt"
    features = np.full(model.begin + model.end, model.padding, dtype=np.int32)
    features[: len(begin)] = np.frombuffer(begin, dtype=np.uint8)  # padded on the right
    features[features.size - len(end) :] = np.frombuffer(end, dtype=np.uint8)  # padded on the left
    return features


@dataclass
class Seen:
    """What came of some files; row i of the arrays belongs to `paths[i]`."""

    paths: list[Path]
    logits: F32
    own_softmax: F32
    by_rule: list[tuple[Path, str]]  # files too short for the network and their labels
    unreadable: list[tuple[Path, str]]  # and the reason


def run_batch(files: Sequence[Path], model: Model) -> Seen:
    """Read a few files and run the network once over those that it is for."""
    features: list[npt.NDArray[np.int32]] = []
    nothing = np.empty((0, len(model.labels)), dtype=np.float32)
    seen = Seen([], nothing, nothing, [], [])
    for path in files:
        try:
            result = look_at(path, model)
        except OSError as problem:  # no permission, gone since it was found, a broken disk
            seen.unreadable.append((path, problem.strerror or str(problem)))
            continue
        if isinstance(result, str):
            seen.by_rule.append((path, result))
        else:
            seen.paths.append(path)
            features.append(result)
    if features:
        outputs = [model.logits, model.own_softmax]
        seen.logits, seen.own_softmax = model.session.run(outputs, {"bytes": np.stack(features)})
    return seen


def run_network(files: Sequence[Path], model: Model, screen: Console) -> Seen:
    """Run the network over all files, as many batches at a time as there are CPUs, with a progress bar."""
    parts: list[Seen] = []
    batches = [files[start : start + BATCH] for start in range(0, len(files), BATCH)]
    columns = (TextColumn("reading and network"), BarColumn(), MofNCompleteColumn(), TextColumn("files, left:"))
    pool = ThreadPoolExecutor(usable_cpus())
    try:
        with Progress(*columns, TimeRemainingColumn(), console=screen) as progress:
            task = progress.add_task("", total=len(files))
            for batch, part in zip(batches, pool.map(lambda batch: run_batch(batch, model), batches), strict=True):
                parts.append(part)
                progress.advance(task, len(batch))
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C the batches in the queue are not waited for
    return Seen(
        paths=[path for part in parts for path in part.paths],
        logits=np.concatenate([part.logits for part in parts]),
        own_softmax=np.concatenate([part.own_softmax for part in parts]),
        by_rule=[entry for part in parts for entry in part.by_rule],
        unreadable=[entry for part in parts for entry in part.unreadable],
    )


# ---------------------------------------------------------------------------------------------------------------------
# softmax_rs: from logits to what a user wants to know
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """Per row of logits: the probabilities of all labels, the K likeliest labels, the entropy."""

    p: F32  # (files, labels)
    top: npt.NDArray[np.intp]  # (files, K), descending; the lower label first where two are equal
    entropy: F64  # (files,), in bits

    @property
    def top_p(self) -> F32:
        """The probability of the likeliest label of each file."""
        return np.take_along_axis(self.p, self.top[:, :1], axis=1)[:, 0]


def judge(logits: F32, temperature: float, k: int) -> Verdict:
    """Turn logits into probabilities, the top `k` labels and entropies."""
    p = softmax_rs.softmax(logits, temperature=temperature)
    log_p = softmax_rs.log_softmax(logits, temperature=temperature)
    # H = -sum p log p. A small temperature drives p to 0 and log p to -inf: 0 * -inf counts as 0, its limit.
    terms = np.multiply(p, log_p, out=np.zeros_like(p), where=p > 0)
    entropy = -terms.sum(axis=-1, dtype=np.float64) / math.log(2) + 0.0  # + 0.0 makes -0.0 a 0.0
    return Verdict(p, np.argsort(-p, axis=-1, kind="stable")[:, :k], entropy)


@dataclass(frozen=True)
class Reliability:
    """How often the top label agrees with the extension of the file's name, by the probability it was given."""

    files: int
    agree: float
    probability: float  # mean, of the same files
    error: float  # expected calibration error: mean |agreement - probability| over the bins, weighted by files
    bins: list[tuple[float, float, int]]  # mean probability, share that agrees, files


def reliability(seen: Seen, verdict: Verdict, model: Model, bins: int = 10) -> Reliability | None:
    """Compare the top labels with the extensions, in bins of probability; None if no extension is a known one.

    There is no ground truth here. The extension is the best stand-in: right nearly always, and the network does not
    see it. Only extensions that belong to one of the network's labels can be right or wrong, others are left out.
    """
    known = set().union(*model.extensions.values())
    suffix = [path.suffix.lower().removeprefix(".") for path in seen.paths]
    rows = np.array([i for i, s in enumerate(suffix) if s in known], dtype=np.intp)
    if rows.size == 0:
        return None
    best = verdict.top[rows, 0]
    right = np.array([suffix[row] in model.extensions[model.labels[b]] for row, b in zip(rows, best, strict=True)])
    p = verdict.top_p[rows].astype(np.float64)
    slot = np.minimum((p * bins).astype(int), bins - 1)
    groups = [slot == s for s in range(bins) if np.any(slot == s)]
    points = [(float(p[g].mean()), float(right[g].mean()), int(g.sum())) for g in groups]
    error = sum(abs(share - mean) * count for mean, share, count in points) / rows.size
    return Reliability(rows.size, float(right.mean()), float(p.mean()), error, points)


# ---------------------------------------------------------------------------------------------------------------------
# The race
# ---------------------------------------------------------------------------------------------------------------------


def by_hand(x: F32) -> F32:
    """Return the softmax as everybody writes it."""
    e = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True))


@dataclass(frozen=True)
class Entrant:
    """One row of the comparison."""

    name: str
    seconds: float
    ulp: float
    difference: float  # to the network's own softmax


@dataclass(frozen=True)
class Race:
    """The comparison."""

    rows: int
    labels: int
    entrants: list[Entrant]


def max_ulp(function: Callable[[F32], F32], x: F32) -> float:
    """Return the largest error of `function` on `x`, in units in the last place of the true value as float32.

    The reference is the same formula in long double (64 bits of precision on x86, never less than float64's 53).
    """
    worst = 0.0
    for start in range(0, len(x), 1024):  # in pieces: long doubles are four times as large
        part = x[start : start + 1024]
        e = np.exp(part.astype(np.longdouble) - part.max(-1, keepdims=True))
        true = e / e.sum(-1, keepdims=True)
        worst = max(worst, float(np.max(np.abs(function(part) - true) / np.spacing(true.astype(np.float32)))))
    return worst


def race(logits: F32, own_softmax: F32) -> Race:
    """Time the three on the logits at temperature 1.

    In every round each has its turn, so that a slow moment of the machine hits all of them, and the order changes, so
    that nobody always starts with the memory and the caches that the same other one left behind. The median counts.
    """
    repeats = -(-RACE_ROWS // len(logits))
    x = np.ascontiguousarray(np.tile(logits, (repeats, 1)))
    entrants: list[tuple[str, int | None, Callable[[F32], F32]]] = [
        ("softmax_rs, 1 thread", 1, softmax_rs.softmax),
        ("NumPy by hand", None, by_hand),
        ("scipy.special.softmax", None, lambda x: scipy.special.softmax(x, axis=-1)),
    ]
    threads = softmax_rs.get_num_threads()
    if threads > 1:
        entrants.insert(1, (f"softmax_rs, {threads} threads", threads, softmax_rs.softmax))

    times: dict[str, list[float]] = {name: [] for name, _, _ in entrants}
    orders = list(itertools.islice(itertools.cycle(itertools.permutations(entrants)), RACE_ROUNDS))
    for order in [entrants, *orders]:
        for name, count, function in order:
            with softmax_rs.threads(count) if count else nullcontext():
                start = time.perf_counter()
                function(x)
                times[name].append(time.perf_counter() - start)
    results = [
        Entrant(
            name,
            statistics.median(times[name][1:]),  # the first round warms up
            max_ulp(function, logits),
            float(np.max(np.abs(function(logits) - own_softmax))),
        )
        for name, _, function in entrants
    ]
    return Race(len(x), x.shape[1], results)


# ---------------------------------------------------------------------------------------------------------------------
# Report
# ---------------------------------------------------------------------------------------------------------------------


def usable_cpus() -> int:
    """Return the number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
        ("onnxruntime", onnxruntime.__version__),
        ("magika", magika.__version__),
        ("Python", platform.python_version()),
    ]
    return ", ".join(f"{name} {version}" for name, version in named)


def make_table(title: str, *columns: str, left: int = 1) -> Table:
    """Return an empty table whose first `left` columns are text and whose others are numbers."""
    table = Table(title=title, title_justify="left", box=rich.box.SIMPLE_HEAD)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < left else "right", overflow="fold")
    return table


def table_of_types(seen: Seen, verdict: Verdict, model: Model) -> Table:
    """Make the table of the labels found, the most frequent first."""
    table = make_table("Types found", "type", "description", "files", "mean probability", "mean entropy (bits)", left=2)
    best = verdict.top[:, 0]
    counts = Counter(model.labels[b] for b in best)
    for label, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        mine = best == model.labels.index(label)
        mean_p, mean_entropy = verdict.top_p[mine].mean(dtype=np.float64), verdict.entropy[mine].mean()
        table.add_row(label, model.descriptions[label], str(count), f"{mean_p:.4f}", f"{mean_entropy:.4f}")
    for label, count in sorted(Counter(label for _, label in seen.by_rule).items()):
        table.add_row(label, "no bytes" if label == "empty" else "too few bytes for the network", str(count), "-", "-")
    return table


def table_of_doubts(seen: Seen, verdict: Verdict, model: Model, show: int) -> Table:
    """Make the table of the least certain files, the least certain first."""
    count = min(show, len(seen.paths))
    title = f"The {count} least certain of {len(seen.paths)} files"
    table = make_table(title, "entropy (bits)", "labels", "file", left=3)
    for row in np.argsort(-verdict.entropy, kind="stable")[:count]:
        labels = ", ".join(f"{model.labels[label]} {verdict.p[row, label]:.4f}" for label in verdict.top[row])
        table.add_row(f"{verdict.entropy[row]:.4f}", labels, printable(seen.paths[row]))
    return table


def table_of_race(finish: Race, files: int) -> Table:
    """Make the table of the comparison."""
    repeats = finish.rows // files
    source = f"the logits of {files} files" + (f", {repeats} times over" if repeats > 1 else "")
    title = f"Softmax over {finish.rows} x {finish.labels} float32 ({source}), T = 1, median of {RACE_ROUNDS} rounds"
    table = make_table(title, "", "milliseconds", "times as long", "max error (ULP)", "max |p - network's own p|")
    for e in finish.entrants:
        ratio = e.seconds / finish.entrants[0].seconds
        table.add_row(e.name, f"{e.seconds * 1e3:.3f}", f"{ratio:.2f}", f"{e.ulp:.2f}", f"{e.difference:.1e}")
    return table


def say_unreadable(unreadable: Sequence[tuple[Path, str]], screen: Console) -> None:
    """Count the unreadable files and name the first few."""
    if unreadable:
        more = f" (the first {NAMED})" if len(unreadable) > NAMED else ""
        screen.print(f"{len(unreadable)} unreadable{more}:")
        for path, reason in unreadable[:NAMED]:
            screen.print(f"  {printable(path)}: {reason}", soft_wrap=True)


def draw(path: Path, temperature: float, verdict: Verdict, reliable: Reliability | None, finish: Race) -> None:
    """Draw entropies, probabilities, reliability and times into `path`."""
    from matplotlib.figure import Figure  # noqa: PLC0415  # only --plot needs matplotlib; no pyplot, so no display

    files, labels = verdict.p.shape
    ours, rival = "tab:blue", "tab:gray"
    figure = Figure(figsize=(11, 8), dpi=120, layout="constrained")
    figure.suptitle(f"{files} files, magika's {labels} logits each, softmax_rs at temperature {temperature:g}")
    (entropy, top), (diagram, bars) = figure.subplots(2, 2)

    entropy.hist(verdict.entropy, bins=np.linspace(0, max(1.0, float(verdict.entropy.max())), 41), color=ours, log=True)
    entropy.set(title="How unsure?", xlabel=f"entropy in bits (at most {math.log2(labels):.2f})", ylabel="files")

    top.hist(verdict.top_p, bins=np.linspace(0, 1, 41), color=ours, log=True)
    top.set(title="How sure?", xlabel="probability of the top label", ylabel="files")

    diagram.plot([0, 1], [0, 1], color=rival, linestyle="--", label="perfect")
    if reliable:
        mean, share, count = (np.array(column) for column in zip(*reliable.bins, strict=True))
        # Wilson's 95 % interval: it does not shrink to nothing where all of a few files agree.
        z2 = 1.96**2
        centre = (share + z2 / (2 * count)) / (1 + z2 / count)
        half = np.sqrt(z2 * (share * (1 - share) / count + z2 / (4 * count**2))) / (1 + z2 / count)
        diagram.vlines(mean, centre - half, centre + half, color=ours, alpha=0.5, label="95 % interval")
        diagram.plot(
            mean, share, "o", color=ours, label=f"{reliable.files} files in {len(count)} bin{'s' * (len(count) != 1)}"
        )
        for x, y, n in reliable.bins:
            side, aside = ("right", -4) if x > 0.9 else ("left", 4)  # stay inside the frame
            diagram.annotate(f"{n}", (x, y), xytext=(aside, -11), textcoords="offset points", ha=side, fontsize=8)
    else:
        diagram.text(0.5, 0.3, "no file has an extension that magika knows", ha="center")
    diagram.legend(loc="lower right")
    diagram.set(
        title="Reliability, the extension taken for the truth",
        xlabel="probability of the top label (numbers: files)",
        ylabel="share whose label has the file's extension",
        xlim=(0, 1.05),
        ylim=(-0.05, 1.1),
    )

    names = [e.name for e in finish.entrants]
    times = [e.seconds * 1e3 for e in finish.entrants]
    drawn = bars.barh(names, times, color=[ours if "softmax_rs" in name else rival for name in names])
    bars.bar_label(drawn, [f"{e.seconds * 1e3:.2f} ms, {e.ulp:.1f} ULP" for e in finish.entrants], padding=3)
    bars.invert_yaxis()
    bars.margins(x=0.8)  # room for the text
    bars.set(title=f"Softmax of {finish.rows} x {finish.labels} float32", xlabel=f"milliseconds ({cpu_name()})")
    try:
        figure.savefig(path)
    except OSError as problem:
        raise UsageError(f"--plot {printable(path)}: {problem.strerror or problem}") from None


# ---------------------------------------------------------------------------------------------------------------------
# The whole
# ---------------------------------------------------------------------------------------------------------------------


def collect(folders: Sequence[Path], limit: int | None, out: Console) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Find the files to look at and say what is left out; `UsageError` if there are none."""
    skip: set[Path] = set()
    if not folders:
        folders, skip = default_folders()
    for folder in folders:
        if not folder.exists():
            raise UsageError(f"{printable(folder)}: no such folder")
        if not folder.is_dir():
            raise UsageError(f"{printable(folder)}: not a folder")
    found = find_files(folders, skip)
    names = ", ".join(map(printable, folders))
    if not found.files:
        why = "".join(f"; {printable(path)}: {reason}" for path, reason in found.unreadable[:1])
        raise UsageError(f"no regular file in {names}{why}")
    out.print(f"{len(found.files)} files in {names}", soft_wrap=True)
    if found.links or found.special:
        out.print(f"Left out: {found.links} links to folders, {found.special} pipes, sockets and devices.")
    files = found.files
    if limit is not None and limit < len(files):
        files = [files[i * len(files) // limit] for i in range(limit)]
        out.print(f"Looking at {limit} of them, evenly spread (--limit).")
    return files, found.unreadable


def classify(arguments: Sequence[str] | None, out: Console, err: Console) -> None:
    """Do what the command line asks for; `UsageError` if that is not possible."""
    options = parse(arguments)
    if options.plot:
        check_plot(options.plot)
    files, unreadable = collect(options.folders, options.limit, out)
    model = load_model()
    if options.top > len(model.labels):
        raise UsageError(f"argument --top: the network has {len(model.labels)} labels, got {options.top}")

    start = time.perf_counter()
    seen = run_network(files, model, err)
    unreadable += seen.unreadable
    seconds = time.perf_counter() - start
    say_unreadable(unreadable, out)
    if not seen.paths and not seen.by_rule:
        raise UsageError("none of the files could be read")

    start = time.perf_counter()
    verdict = judge(seen.logits, options.temperature, options.top)
    ours = (time.perf_counter() - start) * 1e3
    count = len(seen.paths)
    out.print(
        f"Network ({model.name}): {count} files to {len(model.labels)} logits each in {seconds:.1f} s"
        f" ({count / seconds:.0f} a second)."
    )
    out.print(f"softmax_rs: probabilities at temperature {options.temperature:g} and entropies in {ours:.1f} ms.\n")
    out.print(table_of_types(seen, verdict, model))
    if not seen.paths:
        out.print("No file was long enough for the network: there are no logits to compare on.")
        if options.plot:
            raise UsageError(f"--plot {printable(options.plot)}: there is nothing to draw")
        return

    out.print(table_of_doubts(seen, verdict, model, options.show))
    reliable = reliability(seen, verdict, model)
    if reliable:
        out.print(
            f"The top label fits the extension of {reliable.agree:.2%} of the {reliable.files} files that have a known"
            f" one; its mean probability is {reliable.probability:.2%} (calibration error {reliable.error:.2%}).\n"
        )

    finish = race(seen.logits, seen.own_softmax)
    out.print(table_of_race(finish, count))
    level, threads = softmax_rs.simd_level(), softmax_rs.get_num_threads()
    out.print(f"{cpu_name()}, {usable_cpus()} CPUs; softmax_rs: SIMD level {level}, up to {threads} threads.")
    out.print(f"{versions()}.", soft_wrap=True)
    if options.plot:
        draw(options.plot, options.temperature, verdict, reliable, finish)
        out.print(f"Drawn: {printable(options.plot)}", soft_wrap=True)


def console(stream: TextIO) -> Console:
    """Return a console that prints text as it is, and 120 wide where nobody says how wide the reader's screen is."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")  # a name that the terminal's encoding does not have
    width = None if stream.isatty() or "COLUMNS" in os.environ else 120
    return Console(file=stream, width=width, markup=False, emoji=False, highlight=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; return the exit code."""
    try:
        classify(arguments, console(sys.stdout), console(sys.stderr))
    except UsageError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
