"""Hazard: a call that changes what is not its own. Inputs never change, the bytes between their elements included; on
any error, `out` keeps its bytes too, and so does an input that is `out`.
"""

import itertools

import numpy as np
import pytest

from catalogue import real, reduced_shape
from children import run
from kinds import KINDS, WITH_OUT
from memory import LAYOUTS, fill_of
from test_out import owner, refused
from ulps import FLOAT32, FLOATS

SHAPE, AXIS = (4, 6), 1
ROWS = reduced_shape(SHAPE, AXIS)
WRITEABLE = {name: layout for name, layout in LAYOUTS.items() if name != "read-only" and "byte-swapped" not in name}


def late(value, shape=ROWS):
    """Return good numbers, and a bad one in the last place."""
    return np.append(np.ones(np.prod(shape, dtype=int) - 1), value).reshape(shape)


# What is wrong in a call, keyword by keyword: for every function that has it.
WRONG = [
    {"axis": 9},
    {"axis": -3},
    {"axis": 0.5},
    {"axis": "1"},
    {"axis": 2**80},
    {"where": np.ones(SHAPE)},
    {"where": np.ones((9, 9), bool)},
    {"where": "all"},
    {"where": np.ma.masked_array(np.ones(SHAPE, bool))},
    *({"temperature": t} for t in (0, -1.0, np.nan, np.inf, -(10**400), "hot", 1j, None, [], late(0), late(np.nan))),
    {"temperature": np.ones((9, 9))},
    {"dtype": np.complex64},
    {"dtype": "nonsense"},
    {"dtype": np.int32},
    {"keepdims": "yes"},
    {"unknown": 1},
    {"weight": np.ones(3)},
    {"weight": "heavy"},
    {"weight": np.ones(6, complex)},
    {"sample_weight": np.ones(5)},
    {"sample_weight": np.array(["a"] * 4)},
    {"label_smoothing": 1.5},
    {"label_smoothing": np.nan},
    {"label_smoothing": "x"},
    {"reduction": "average"},
    {"reduction": None},
    {"ignore_index": 0.5},
    {"ignore_index": 2**200},
    {"z_loss": -1.0},
    {"z_loss": np.inf},
    {"z_loss": None},
    {"softcap": 0.0},
    {"softcap": np.nan},
    {"grad_output": np.ones(5)},
    {"grad_output": np.ones(4)},  # of a mean
    {"grad_output": "up"},
]
# Wrong arrays: in place of the argument of that name.
WRONG_ARRAYS = [
    *(
        (name, np.zeros(SHAPE, code))
        for name in ("x", "t", "g", "y", "logits", "v")
        for code in ("c8", "g", "O", "M8[s]")
    ),
    *((name, np.zeros((3, 7), np.float32)) for name in ("t", "v")),
    *((name, None) for name in ("x", "t", "g", "y", "logits", "target", "v")),
    ("g", np.zeros((3, 7), np.float32)),
    *(("target", late(value).astype(code)) for value, code in ((6, "i8"), (-1, "i8"), (255, "u1"), (2**62, "u8"))),
    ("target", np.zeros(5, int)),
    ("target", np.zeros(ROWS)),
    ("target", np.zeros(ROWS, bool)),
    ("target", ["a"] * 4),
    ("target", np.zeros((4, 7))),
]


def snapshot(arrays):
    """Return the bytes of the arrays that own the memory of these, gaps included."""
    return [(owner(a) if owner(a).flags.forc else a).tobytes("A") for a in arrays if isinstance(a, np.ndarray)]


def laid_out(k, rng, dtype, layout):
    """Draw the arrays of a call; keywords that are arrays too."""
    arrays = k.arrays(rng, rng.normal(0, 3, SHAPE).astype(dtype), AXIS)
    options = {
        "where": rng.random(SHAPE) < 0.8,
        "temperature": rng.uniform(0.5, 2, ROWS),
        "weight": rng.uniform(0.5, 2, SHAPE[AXIS]),
        "sample_weight": rng.uniform(0.5, 2, ROWS),
    }
    return [layout(a) for a in arrays], {n: layout(a) for n, a in options.items() if k.accepts(n)}


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("k", KINDS, ids=str)
def test_after_success(k, dtype, rng):
    """Every input, and the arrays among the keywords, in every layout."""
    for name, layout in LAYOUTS.items():
        arrays, options = laid_out(k, rng, dtype, layout)
        before = snapshot([*arrays, *options.values()])
        k(*arrays, axis=AXIS, **options)
        assert snapshot([*arrays, *options.values()]) == before, f"{k} {dtype} {name}"


def calls_that_fail(k, arrays, options):
    """Yield (what is wrong, arrays, keywords)."""
    for wrong in WRONG:
        if k.keywords | {"axis", "unknown"} >= set(wrong):
            yield wrong, arrays, {"axis": AXIS} | options | wrong
    for name, array in WRONG_ARRAYS:
        if name in k.names:
            place = k.names.index(name)
            probabilities = name == "target" and "probabilities" in k.name
            if probabilities and np.shape(array) == ROWS and not isinstance(array, list) and array.dtype.kind in "iu":
                continue  # classes are as good
            given = [array if i == place else a for i, a in enumerate(arrays)]
            yield f"{name}={array!r}", given, {"axis": AXIS} | options
    yield "a third of the arguments", arrays[:0], {"axis": AXIS}


@pytest.mark.parametrize("layout", ["contiguous", "strided 2", "misaligned 3 strided reversed", "field"])
@pytest.mark.parametrize("k", KINDS, ids=str)
def test_after_an_error(k, layout, rng):
    """Every error that a call can raise, with a good `out` beside, and with an input as `out`."""
    layout = LAYOUTS[layout]
    arrays, options = laid_out(k, rng, FLOAT32, layout)
    outs = [None]
    if k.accepts("out"):
        outs = [layout(np.full(k.out_shape(SHAPE, AXIS), fill_of(FLOAT32), FLOAT32))]
        outs += [a for a in arrays if a.shape == k.out_shape(SHAPE, AXIS) and a.dtype == FLOAT32]
    failed = 0
    for out, (wrong, given, keywords) in itertools.product(outs, calls_that_fail(k, arrays, options)):
        into = {} if out is None else {"out": out}
        everything = [*arrays, *options.values(), *into.values()]
        before = snapshot(everything)
        # Exactly these: no panic (a BaseException), no OverflowError, no SystemError.
        with pytest.raises((TypeError, ValueError, IndexError)) as caught:
            k(*given, **keywords, **into)
        assert snapshot(everything) == before, f"{k} {wrong}: {caught.value!r}, and something was written"
        failed += 1
    assert failed >= 15


@pytest.mark.parametrize("k", WITH_OUT, ids=str)
def test_after_an_out_that_does_not_do(k, rng):
    """Every unusable `out` keeps its bytes, and the inputs theirs."""
    arrays, options = laid_out(k, rng, FLOAT32, LAYOUTS["strided 2"])
    for out, exception, _ in refused(k.out_shape(SHAPE, AXIS)):
        before = snapshot([*arrays, *options.values(), out])
        with pytest.raises((TypeError, ValueError)) as caught:
            k(*arrays, axis=AXIS, out=out, **options)
        assert type(caught.value) is exception, f"{k}: {caught.value!r}"
        assert snapshot([*arrays, *options.values(), out]) == before, f"{k}: {caught.value!r}"


@pytest.mark.parametrize("variable", ["SOFTMAX_RS_NUM_THREADS", "SOFTMAX_RS_SIMD"])
def test_after_a_bad_variable(variable):
    """An environment that is not understood shows at the first call, before anything is written."""
    code = """
import numpy as np
from kinds import WITH_OUT
rng = np.random.default_rng(0)
for k in WITH_OUT:
    shape = (300, 300) if "jacobian" not in k.name else (40, 60)
    arrays = k.arrays(rng, rng.normal(0, 3, shape).astype(np.float32), 1)
    for out in (np.full(k.out_shape(shape, 1), 7, np.float32), arrays[0]):
        if out.shape != k.out_shape(shape, 1):
            continue
        before = [a.tobytes() for a in (*arrays, out)]
        try:
            k(*arrays, axis=1, out=out)
        except ValueError as error:
            assert "VARIABLE" in str(error), error
        else:
            raise SystemExit(f"{k}: no error")
        assert [a.tobytes() for a in (*arrays, out)] == before, k
"""
    run(code.replace("VARIABLE", variable), **{variable: "many"})


def test_what_counts_as_gaps():
    """The snapshots above see a byte that changes between the elements."""
    array = LAYOUTS["strided 2"](np.zeros(SHAPE, real(FLOAT32)))
    before = snapshot([array])
    owner(array)[-1:] ^= 1
    assert snapshot([array]) != before
