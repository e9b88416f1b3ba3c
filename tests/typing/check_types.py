"""What a type checker must conclude about calls: read by `make check` (mypy --strict), never run."""

from typing import assert_type

import numpy as np
from numpy.typing import NDArray

import softmax_rs
from softmax_rs import get_num_threads, log_softmax, logsumexp, set_num_threads, simd_level, softmax, threads


def a_floating_dtype_comes_back_as_it_went_in(
    f16: NDArray[np.float16], f32: NDArray[np.float32], f64: NDArray[np.float64]
) -> None:
    assert_type(softmax(f16), NDArray[np.float16])
    assert_type(softmax(f32), NDArray[np.float32])
    assert_type(softmax(f64), NDArray[np.float64])
    assert_type(log_softmax(f16), NDArray[np.float16])
    assert_type(log_softmax(f32), NDArray[np.float32])
    assert_type(log_softmax(f64), NDArray[np.float64])


def integers_and_booleans_are_computed_as_float64(i64: NDArray[np.int64], u8: NDArray[np.uint8]) -> None:
    assert_type(softmax(i64), NDArray[np.float64])
    assert_type(softmax(u8), NDArray[np.float64])
    assert_type(log_softmax(i64), NDArray[np.float64])
    assert_type(log_softmax(i64 > 0), NDArray[np.float64])
    assert_type(softmax([[0.0, 1.0], [2.0, 3.0]]), NDArray[np.float64])


def a_dtype_decides(f64: NDArray[np.float64], i64: NDArray[np.int64]) -> None:
    assert_type(softmax(f64, dtype=np.float32), NDArray[np.float32])
    assert_type(log_softmax(i64, dtype=np.dtype(np.float16)), NDArray[np.float16])


def all_axes_give_a_scalar_unless_kept(f32: NDArray[np.float32], i64: NDArray[np.int64]) -> None:
    assert_type(logsumexp(f32), np.float32)
    assert_type(logsumexp(i64), np.float64)
    assert_type(logsumexp(f32, keepdims=True), NDArray[np.float32])


def keywords_leave_the_type_alone(f32: NDArray[np.float32], f64: NDArray[np.float64], mask: NDArray[np.bool_]) -> None:
    assert_type(softmax(f32, 0, temperature=0.5, where=mask), NDArray[np.float32])
    assert_type(softmax(f32, axis=(0, 1)), NDArray[np.float32])
    assert_type(softmax(f32, axis=None), NDArray[np.float32])
    assert_type(softmax(f32, temperature=f64), NDArray[np.float32])
    assert_type(log_softmax(f32, axis=0, temperature=2, where=mask), NDArray[np.float32])


def out_is_what_comes_back(f32: NDArray[np.float32], f64: NDArray[np.float64]) -> None:
    assert_type(softmax(f32, out=f32), NDArray[np.float32])
    assert_type(log_softmax(f32, out=f32), NDArray[np.float32])
    assert_type(logsumexp(f64, axis=-1, out=f64), NDArray[np.float64])


def the_runtime() -> None:
    assert_type(get_num_threads(), int)
    assert_type(softmax_rs.__version__, str)
    level: str = simd_level()
    set_num_threads(len(level))
    with threads(2):
        pass


def what_is_refused(f32: NDArray[np.float32]) -> None:
    # Under --strict an `ignore` that is not needed is itself an error.
    softmax(f32, -1, 2.0)  # type: ignore[call-overload]
    logsumexp(f32, temperature=2.0)  # type: ignore[call-overload]
    set_num_threads("2")  # type: ignore[arg-type]
