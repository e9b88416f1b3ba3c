"""Hazard: a NaN or an infinity of one row that changes another. Every element is one, in turn."""

import numpy as np
import pytest

from every import WAYS, Integers
from ulps import BFLOAT16, FLOAT16, FLOAT32, FLOAT64

POISONS = (np.nan, np.inf, -np.inf)
# (shape, axis): panels and a part of one; rows on their own, several at once; columns whose neighbours in the vector
# are other rows; a middle axis; beyond the registers of a row.
GRID = (((19, 3), -1), ((5, 17), -1), ((3, 33), 0), ((9, 18), 0), ((2, 3, 9), 1), ((2, 130), -1), ((4, 3, 2), 0))
CASES = [(shape, axis, dtype) for shape, axis in GRID for dtype in (FLOAT32, FLOAT64)]
CASES += [((5, 17), -1, FLOAT16), ((9, 18), 0, BFLOAT16)]


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_every_element_poisoned(way):
    """Each element of each argument is NaN, inf and -inf in turn; all other rows keep their bits."""
    for shape, axis, dtype in CASES:
        integers = Integers(sum(shape))
        arrays = way.arguments(integers, integers.floats(dtype, (-3, 1), shape), axis)
        arrays = [np.array(a) for a in arrays]
        clean = way.rows(way(*arrays, axis=axis), axis)
        # The row of each number that there is one of per row, and of each element.
        kept = [length for a, length in enumerate(shape) if a != axis % len(shape)]
        of_row = np.arange(int(np.prod(kept))).reshape(kept)
        of_element = np.broadcast_to(np.expand_dims(of_row, axis), shape)
        for which, array in enumerate(arrays):
            if array.dtype.kind not in "fV":
                continue  # classes
            for place in np.ndindex(array.shape):
                row = (of_element if array.shape == shape else of_row)[place]
                healthy = array[place]
                for poison in POISONS:
                    array[place] = poison
                    got = way.rows(way(*arrays, axis=axis), axis)
                    for matrix, want in zip(got, clean, strict=True):
                        matrix[row] = want[row]
                        assert (matrix == want).all(), (
                            f"{way} {dtype} {shape} axis={axis}: {poison} in argument {which} at {place} of row {row} "
                            f"changes rows {np.unique(np.nonzero(matrix != want)[0]).tolist()}"
                        )
                array[place] = healthy
