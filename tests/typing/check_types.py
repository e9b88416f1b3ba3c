"""What a type checker must conclude about calls: read by `make check` (mypy --strict), never run."""

from typing import assert_type

import numpy as np
from numpy.typing import NDArray

import softmax_rs
from softmax_rs import (
    cross_entropy,
    cross_entropy_hvp,
    cross_entropy_with_grad,
    get_num_threads,
    log_softmax,
    log_softmax_backward,
    log_softmax_jacobian,
    log_softmax_jvp,
    log_softmax_vjp,
    logsumexp,
    logsumexp_jvp,
    logsumexp_vjp,
    set_num_threads,
    simd_level,
    softmax,
    softmax_backward,
    softmax_jacobian,
    softmax_jvp,
    softmax_vjp,
    threads,
)


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


def products_keep_the_dtype_of_both(
    f16: NDArray[np.float16], f32: NDArray[np.float32], f64: NDArray[np.float64], mask: NDArray[np.bool_]
) -> None:
    assert_type(softmax_jvp(f16, f16), NDArray[np.float16])
    assert_type(softmax_vjp(f32, f32, 0, temperature=f64, where=mask), NDArray[np.float32])
    assert_type(log_softmax_jvp(f64, f64, axis=(0, 1)), NDArray[np.float64])
    assert_type(log_softmax_vjp(f32, f32), NDArray[np.float32])
    assert_type(softmax_backward(f32, f32, axis=None), NDArray[np.float32])
    assert_type(log_softmax_backward(f64, f64), NDArray[np.float64])
    assert_type(logsumexp_jvp(f32, f32), np.float32)
    assert_type(logsumexp_jvp(f32, f32, keepdims=True), NDArray[np.float32])
    assert_type(logsumexp_vjp(f32, f32, axis=-1), NDArray[np.float32])
    assert_type(softmax_jvp(f64, f64, out=f64), NDArray[np.float64])
    assert_type(log_softmax_backward(f32, f32, out=f32), NDArray[np.float32])
    assert_type(logsumexp_jvp(f64, f64, axis=-1, out=f64), NDArray[np.float64])


def products_of_exact_numbers_are_float64(i64: NDArray[np.int64]) -> None:
    assert_type(softmax_jvp(i64, i64), NDArray[np.float64])
    assert_type(log_softmax_vjp(i64, i64 > 0), NDArray[np.float64])
    assert_type(logsumexp_jvp(i64, i64), np.float64)
    assert_type(softmax_vjp([[0.0, 1.0]], [[1.0, 0.0]]), NDArray[np.float64])


def jacobians(f32: NDArray[np.float32], i64: NDArray[np.int64]) -> None:
    assert_type(softmax_jacobian(f32), NDArray[np.float32])
    assert_type(log_softmax_jacobian(f32, 0, temperature=0.5), NDArray[np.float32])
    assert_type(softmax_jacobian(i64), NDArray[np.float64])
    assert_type(softmax_jacobian(f32, out=f32), NDArray[np.float32])


def losses(
    f16: NDArray[np.float16],
    f32: NDArray[np.float32],
    f64: NDArray[np.float64],
    i64: NDArray[np.int64],
    u8: NDArray[np.uint8],
) -> None:
    assert_type(cross_entropy(f16, i64), np.float32)
    assert_type(cross_entropy(f32, u8, weight=f64, label_smoothing=0.1), np.float32)
    assert_type(cross_entropy(f64, f32, reduction="sum", softcap=30.0, z_loss=1e-4), np.float64)
    assert_type(cross_entropy(i64, i64), np.float64)
    assert_type(cross_entropy_with_grad(f32, i64), tuple[np.float32, NDArray[np.float32]])
    assert_type(cross_entropy_with_grad(f16, i64, axis=1), tuple[np.float32, NDArray[np.float16]])
    assert_type(cross_entropy_with_grad(f64, i64, out=f64, grad_output=2.0), tuple[np.float64, NDArray[np.float64]])
    assert_type(cross_entropy_hvp(f32, i64, f32), NDArray[np.float32])
    assert_type(cross_entropy_hvp(f64, i64, f64, out=f64), NDArray[np.float64])


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
    logsumexp_jvp(f32, f32, temperature=2.0)  # type: ignore[call-overload]
    softmax_jvp(f32, f32, dtype=np.float64)  # type: ignore[call-overload]
    softmax_jacobian(f32, axis=None)  # type: ignore[call-overload]
    cross_entropy(f32, f32, -1)  # type: ignore[call-overload]
    cross_entropy(f32, f32, reduction="average")  # type: ignore[call-overload]
    cross_entropy_hvp(f32, f32, f32, z_loss=1e-4)  # type: ignore[call-overload]
    set_num_threads("2")  # type: ignore[arg-type]
