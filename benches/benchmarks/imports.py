"""Import time: of the package alone (NumPy is there already), and of NumPy, its floor."""


def timeraw_softmax_rs() -> tuple[str, str]:
    """In a new process each time: (what is timed, what goes before)."""
    return "import softmax_rs", "import numpy"


def timeraw_numpy() -> str:
    """For comparison."""
    return "import numpy"
