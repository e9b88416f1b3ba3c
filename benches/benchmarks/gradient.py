"""Derivatives, on the cells of `forward`."""

from . import forward

globals().update(forward.classes("gradient", __name__))
