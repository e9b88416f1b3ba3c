"""Hazard: any argument at all. Whatever hypothesis makes of every parameter of every public function, the call gives a
result or one of the documented exceptions, and changes nothing but `out`; where all arguments make sense, the result is
the reference's.
"""

import contextlib
import math

import hypothesis.extra.numpy as hnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import softmax_rs
from catalogue import BY_NAME, OTHERS, reduced_shape
from effort import cases
from kinds import KINDS
from memory import LAYOUTS
from test_cross_entropy import check, check_hvp
from test_untouched import snapshot
from ulps import FLOATS

few = settings(max_examples=cases(40, 10_000))
DOCUMENTED = (TypeError, ValueError, IndexError)  # AxisError is two of them
DTYPES = (
    *FLOATS,
    *(
        np.dtype(c)
        for c in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "?", ">f4", ">f8", ">i4", "g", "c8", "M8[s]")
    ),
    np.dtype(ml_dtypes.float8_e5m2),
)
SIZES = st.sampled_from((0, 1, 1, 2, 3, 3, 4, 5, 17))
generators = st.integers(0, 2**32).map(np.random.default_rng)


class Odd:
    """An object whose every conversion ends otherwise than hoped for."""

    def __init__(self, result):
        self.result = result

    def __repr__(self):
        """Tell one from the other in a falsifying example."""
        return f"Odd({self.result!r})"

    def __array__(self, dtype=None, copy=None):
        """Give an array, or not."""
        return self.result

    def __index__(self):
        """Give an int, or not."""
        return self.result

    def __float__(self):
        """Give a float, or not."""
        return self.result

    def __len__(self):
        """Pretend to be a sequence."""
        return 2


SHAPES, ANY_DTYPE = st.lists(SIZES, max_size=4), st.sampled_from(DTYPES)


@st.composite
def arrays(draw, shapes=SHAPES, dtypes=ANY_DTYPE):
    """Draw an array of any dtype, values and layout."""
    rng, dtype, shape = draw(generators), draw(dtypes), tuple(draw(shapes))
    values = rng.normal(0, draw(st.sampled_from((0.1, 3, 1e30))), shape)
    special = draw(st.sampled_from((0, 0, 0, 0.1)))
    values = np.where(rng.random(shape) < special, rng.choice((np.nan, np.inf, -np.inf, 0, -0.0), shape), values)
    with np.errstate(all="ignore"):
        bounded = values if dtype.kind in "fcV" else np.clip(np.nan_to_num(values), -5, 5)
        array = np.asarray(bounded).astype(dtype)
    names = [n for n in LAYOUTS if n != "memmap" and (dtype.kind not in "cMV" or dtype in FLOATS or n == "contiguous")]
    array = LAYOUTS[draw(st.sampled_from(names if array.ndim else ["contiguous"]))](array)
    if array.ndim and draw(st.integers(0, 9)) == 0:
        array = np.broadcast_to(array[:1], array.shape)
    return array


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-3, 9)
    | st.integers()
    | st.floats()
    | st.sampled_from((1.0, 0.5, 2.0, "mean", "sum", "none", "", "float32", b"x", 1j, 10**400, math.nan, (), [], {}))
)
anything = (
    scalars
    | arrays()
    | st.lists(st.integers(-2, 3) | st.floats(-2, 3) | st.none() | st.text(max_size=2), max_size=4)
    | st.lists(st.integers(-5, 5), max_size=3).map(tuple)
    | st.builds(
        Odd, scalars.filter(lambda value: not isinstance(value, bool)) | arrays()
    )  # Python warns of such a bool
    | arrays().map(np.ma.masked_array)
    | st.sampled_from(
        (np.float32, np.dtype("f4"), object(), range(3), memoryview(b"abcd"), slice(1), ..., NotImplemented)
    )
)
axes = st.integers(-3, 3) | st.none() | st.lists(st.integers(-3, 3), max_size=3).map(tuple) | scalars


@st.composite
def calls(draw, k):
    """Draw a call that is right but for a few arguments: (arrays, keywords)."""
    shape = tuple(draw(st.lists(SIZES, min_size=1, max_size=3)))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    rng = draw(generators)
    x = draw(arrays(shapes=st.just(shape), dtypes=st.sampled_from(DTYPES[:13])))
    positional = list(k.arrays(rng, x, axis))
    n, rows = shape[axis], reduced_shape(shape, axis)
    right = {
        "temperature": lambda: draw(st.sampled_from((1.0, 0.7, 3, rng.uniform(0.5, 2, rows)))),
        "where": lambda: draw(st.sampled_from((None, True, rng.random(shape) < 0.7))),
        "dtype": lambda: draw(st.sampled_from((None, *FLOATS))),
        "keepdims": lambda: draw(st.booleans()),
        "weight": lambda: rng.uniform(0.1, 2, n),
        "sample_weight": lambda: rng.uniform(0.1, 2, rows),
        "ignore_index": lambda: draw(st.integers(-100, 4)),
        "label_smoothing": lambda: draw(st.floats(0, 1)),
        "reduction": lambda: draw(st.sampled_from(("mean", "sum", "none"))),
        "z_loss": lambda: draw(st.floats(0, 1)),
        "softcap": lambda: draw(st.none() | st.floats(0.5, 50)),
        "grad_output": lambda: 2.0,
        "out": lambda: np.full(k.out_shape(shape, axis) or (), 7, x.dtype.newbyteorder("=")),
    }
    keywords = {"axis": axis}
    for name in draw(st.lists(st.sampled_from(sorted(k.keywords)), max_size=5, unique=True)):
        keywords[name] = right[name]()
    if "out" in keywords and draw(st.booleans()):
        keywords["out"] = positional[0]
    for _ in range(draw(st.integers(0, 2))):  # what is wrong
        name = draw(st.sampled_from(["axis", *range(len(positional)), *sorted(k.keywords)]))
        if isinstance(name, int):
            positional[name] = draw(anything)
        else:
            keywords[name] = draw(axes if name == "axis" else anything)
    return positional, keywords


@pytest.mark.parametrize("k", KINDS, ids=str)
@few
@given(data=st.data())
def test_any_call(k, data):
    """A result or a documented exception; inputs keep their bytes, on an error `out` too; so does the next call."""
    positional, keywords = data.draw(calls(k))
    out = keywords.get("out")
    everything = [a for a in (*positional, *keywords.values()) if isinstance(a, np.ndarray)]
    inputs = [a for a in everything if not (isinstance(out, np.ndarray) and np.may_share_memory(a, out))]
    before, whole = snapshot(inputs), snapshot(everything)
    try:
        results = k(*positional, **keywords)
    except DOCUMENTED:
        assert snapshot(everything) == whole, "changed by a call that failed"
    else:
        assert snapshot(inputs) == before, "an input was changed"
        assert results[-1] is out or not isinstance(out, np.ndarray)
        for result in results:
            assert isinstance(result, np.ndarray | np.generic) and result.dtype.isnative
    assert softmax_rs.softmax([0.0, 0.0]).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("name", [*BY_NAME, *OTHERS])
@few
@given(data=st.data())
def test_nothing_but_nonsense(name, data):
    """No argument makes sense."""
    function = getattr(softmax_rs, name)
    positional = data.draw(st.lists(anything, max_size=4))
    names = [
        "axis",
        "where",
        "out",
        "dtype",
        "temperature",
        "weight",
        "reduction",
        "target",
        "x",
        "keepdims",
        "nothing",
    ]
    keywords = data.draw(st.dictionaries(st.sampled_from(names), anything, max_size=4))
    with contextlib.suppress(*DOCUMENTED):
        function(*positional, **keywords)


@pytest.mark.parametrize("name", ["set_num_threads", "threads"])
@few
@given(value=anything)
def test_any_number_of_threads(name, value):
    """The number of threads is set, or the exception is documented and the number stays."""
    before = softmax_rs.get_num_threads()
    try:
        made = getattr(softmax_rs, name)(value)
        if name == "threads":
            with made:
                pass
    except (*DOCUMENTED, OverflowError):
        assert softmax_rs.get_num_threads() == before
    finally:
        softmax_rs.set_num_threads(before)


@pytest.mark.parametrize("k", [k for k in KINDS if k.function in BY_NAME], ids=str)
@few
@given(data=st.data())
def test_right_where_defined(k, data):
    """Any floats in any layout and shape, any axis that is there: within the limits of the reference."""
    f = BY_NAME[k.function]
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=9))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    x = data.draw(arrays(shapes=st.just(shape), dtypes=st.sampled_from(FLOATS)))
    x = x.view(np.ndarray).astype(x.dtype.newbyteorder("="), order="K")
    given_arrays = f.arguments(data.draw(generators), x, axis)
    keywords = {"temperature": data.draw(st.sampled_from((1.0, 0.7, 3.0)))} if f.accepts("temperature") else {}
    layout = LAYOUTS[data.draw(st.sampled_from(sorted(LAYOUTS)))]
    got = np.asarray(f(*map(layout, given_arrays), axis=axis, **keywords))
    last = [np.moveaxis(a, axis, -1) if a.shape == shape else a for a in given_arrays]
    got = np.moveaxis(got, axis, -1) if got.shape == shape else got
    f.check(got, x.dtype, *last, **keywords)


@few
@given(data=st.data())
def test_losses_right_where_defined(data):
    """Any floats and targets: loss, gradient and Hessian within the limits of the reference."""
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=7))
    rng = data.draw(generators)
    x = rng.normal(0, data.draw(st.sampled_from((0.1, 3.0, 30.0))), shape).astype(data.draw(st.sampled_from(FLOATS)))
    target = rng.integers(0, shape[-1], shape[:-1])
    if data.draw(st.booleans()):
        target = rng.uniform(0, 1, shape)
    call = {"reduction": data.draw(st.sampled_from(("mean", "sum", "none")))}
    check(x, target, **call)
    check_hvp(x, target, rng.normal(0, 1, shape).astype(x.dtype), **call)
