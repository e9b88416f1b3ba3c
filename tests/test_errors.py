"""Hazard: misuse. The exact exception, and a message that names the argument, what came and what would be right."""

import inspect
import re

import numpy as np
import pytest

import softmax_rs
from catalogue import BY_NAME, FUNCTIONS, OTHERS

X = np.zeros((3, 4), np.float32)

# (arguments, exception, patterns the message must match); every function, where it has the keyword.
TABLE = [
    ({"axis": 2}, np.exceptions.AxisError, ["^axis 2 is out of bounds for array of dimension 2$"]),
    ({"axis": (0, -3)}, np.exceptions.AxisError, ["^axis -3 is out of bounds for array of dimension 2$"]),
    ({"axis": (1, 1)}, ValueError, ["duplicate", "axis"]),
    ({"axis": 0.0}, TypeError, ["axis", "float", "int"]),
    ({"axis": "rows"}, TypeError, ["axis", "str", "int"]),
    ({"where": np.ones((3, 4))}, TypeError, ["where", "float64", r"bool.*; convert it, as with \.astype\(bool\)$"]),
    ({"where": np.ones((4, 3), bool)}, ValueError, ["where", r"\(4, 3\)", r"\(3, 4\)"]),
    ({"temperature": 0.0}, ValueError, ["temperature", r"\b0", "positive"]),
    ({"temperature": -2.5}, ValueError, ["temperature", "-2.5", "positive"]),
    ({"temperature": float("nan")}, ValueError, ["temperature", "(?i)nan", "finite"]),
    ({"temperature": float("inf")}, ValueError, ["temperature", "inf", "finite"]),
    ({"temperature": [1.0, -3.0, 1.0]}, ValueError, ["temperature", "-3", "positive", r"at index \(1,\)"]),
    ({"temperature": None}, TypeError, ["temperature must be a real number or an array of them, got None$"]),
    ({"temperature": [1.0, 2.0]}, ValueError, ["temperature", r"\(2,\)", r"\(3,\)"]),
    (
        {"temperature": [[1.0], [2.0], [3.0]]},
        ValueError,
        ["temperature", r"\(3, 1\)", r"\(3,\); leave out the axis of length 1$"],
    ),
    (
        {"temperature": [[1.0, 2.0]]},
        ValueError,
        ["temperature", r"\(1, 2\)", r"\(3,\)$"],
    ),  # of which none can be left out
    ({"out": [0.0]}, TypeError, ["out", "list", "ndarray"]),
    ({"out": np.zeros((3, 4, 1), np.float32)}, ValueError, ["out", r"\(3, 4, 1\)", r"\(3, 4\)|\(3,\)"]),
    ({"out": "float64"}, TypeError, ["out", "float64", "float32"]),
    ({"dtype": np.int32}, TypeError, ["dtype", "int32", "float32"]),
    ({"dtype": np.complex64}, TypeError, ["dtype", "complex64", "float32"]),
    ({"x": [1, None, 2]}, TypeError, ["must be", "list", r"NoneType at index \(1,\)"]),
    ({"x": [[1, 2], [3, 10**40]]}, TypeError, ["must be", r"int beyond 64 bits at index \(1, 1\)"]),
    ({"x": np.zeros(3, complex)}, TypeError, ["complex128", "float64"]),
    ({"x": None}, TypeError, ["must be an array of real numbers, got None$"]),
    ({"x": ["a", "b"]}, TypeError, ["<U1|str"]),
    ({"x": [[1.0, 2.0], [3.0]]}, ValueError, ["inhomogeneous"]),
    ({"x": [[1.0, 2.0], [3.0]]}, ValueError, ["is a list that cannot be made an array", "inhomogeneous"]),
    ({"x": np.ma.masked_array([1.0, 2.0], [False, True])}, TypeError, ["MaskedArray", re.escape("where=~a.mask")]),
    ({"temprature": 1.0}, TypeError, ["temprature"]),
    ({"keepdim": True}, TypeError, ["keepdim"]),
]


@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
def test_table(f, rng):
    """The table above: type and message; nothing is written anywhere."""
    checked = 0
    for arguments, exception, patterns in TABLE:
        keywords = set(arguments) & {"axis", "where", "temperature", "out", "dtype"}
        if not (f.keywords | {"axis"}).issuperset(keywords):
            continue
        given = {"axis": -1} | arguments
        if isinstance(given.get("out"), str):
            given["out"] = np.zeros(f.result_shape(X.shape, -1), given["out"])
        x = given.pop("x", X)
        with pytest.raises(Exception) as caught:  # noqa: PT011 the type is compared below
            f(x, *f.arguments(rng, X)[1:], **given)
        assert type(caught.value) is exception, f"{f} {arguments}: {caught.value!r}"
        for pattern in patterns:
            assert re.search(pattern, str(caught.value)), f"{f} {arguments}: no {pattern!r} in {str(caught.value)!r}"
        checked += 1
    assert checked >= 15
    assert not X.any()


@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
def test_wrong_calls(f, rng):
    """No argument, an argument twice, keywords by position: TypeError, as Python itself says it."""
    arrays, first = f.arguments(rng, X), f.names[0]
    for call, pattern in [
        (f, "missing|argument"),
        (lambda: f(*arrays[1:]), "missing|argument"),
        (lambda: f(*arrays, -1, 1.0), "positional"),
        (lambda: f(*arrays, -1, **{first: X}), first),
        (lambda: f(*arrays, -1, axis=-1), "axis"),
    ]:
        with pytest.raises(TypeError, match=pattern) as caught:
            call()
        assert f.name in str(caught.value) or "argument" in str(caught.value)


@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
def test_names_of_the_arrays(f, rng):
    """The arrays go by their names as well."""
    arrays = f.arguments(rng, X, 0)
    assert np.array_equal(f(**dict(zip(f.names, arrays, strict=True)), axis=0), f(*arrays, axis=0))


@pytest.mark.parametrize(("name", "signature"), [*((f.name, f.signature) for f in FUNCTIONS), *OTHERS.items()])
def test_signature(name, signature):
    """The documented signature, visible to help()."""
    function = getattr(softmax_rs, name)
    assert str(inspect.signature(function)) == signature
    assert function.__module__ == "softmax_rs"
    assert function.__name__ == function.__qualname__ == name


@pytest.mark.parametrize("f", FUNCTIONS, ids=str)
def test_a_failed_call_leaves_no_trace(f, rng):
    """After every error the next call is right, and no exception is pending."""
    arrays = f.arguments(rng, X)
    want = f(*arrays, axis=-1).tobytes()
    for arguments, _, _ in TABLE:
        given = {"axis": -1} | arguments | ({"out": np.zeros(1)} if isinstance(arguments.get("out"), str) else {})
        with pytest.raises((TypeError, ValueError)):
            f(given.pop("x", arrays[0]), *arrays[1:], **given)
        assert f(*arrays, axis=-1).tobytes() == want


def test_errors_raised_by_arguments_pass_through():
    """An exception inside __array__, __index__ or __float__ is not swallowed or replaced."""

    class Broken:
        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("from __array__")

        def __index__(self):
            raise RuntimeError("from __index__")

    class Wrong:
        def __array__(self, dtype=None, copy=None):
            raise ValueError("from __array__")

    for f in FUNCTIONS:
        for place in range(len(f.names)):
            with pytest.raises(RuntimeError, match="from __array__"):
                f(*[Broken() if i == place else X for i in range(len(f.names))])
            with pytest.raises(ValueError, match=r"^from __array__$"):
                f(*[Wrong() if i == place else X for i in range(len(f.names))])
        with pytest.raises(RuntimeError, match="from __index__"):
            f(*[X] * len(f.names), axis=Broken())


def test_no_warning_from_any_value(rng):
    """No function ever warns (warnings are errors here): overflow, invalid, underflow, empty."""
    for f in FUNCTIONS:
        for dtype in (np.float16, np.float32, np.float64):
            big = np.finfo(dtype).max
            for row in (
                [big, -big],
                [np.inf, np.nan],
                [-np.inf] * 2,
                [0, -90],
                [np.finfo(dtype).smallest_subnormal] * 2,
                [],
            ):
                arrays = f.arguments(rng, np.array(row, dtype))
                with np.errstate(all="raise"):
                    f(*arrays, axis=-1)
        if f.accepts("dtype"):
            with np.errstate(all="raise"):
                f(np.array([1e300, 1.0]), axis=-1, dtype=np.float32)
    assert BY_NAME["softmax"](np.array([1e300, 1.0])).tolist() == [1.0, 0.0]
