"""Arrays as JSON: short numbers, and large matrices as bytes in base64."""

import base64
import math
from typing import Any

import numpy as np
from numpy import ndarray

__all__ = ["as_bytes", "finite", "rounded"]


def rounded(values: Any, digits: int = 4) -> list[Any]:
    """Nested lists of numbers with no more digits than a picture shows."""
    return np.round(np.asarray(values, dtype=np.float64), digits).tolist()


def as_bytes(values: ndarray, most: float = 1.0) -> str:
    """Values in [0, most] as one byte each, row by row, in base64."""
    scaled = np.nan_to_num(np.asarray(values) / max(most, 1e-30))
    levels = np.round(255 * scaled.clip(0, 1)).astype(np.uint8)
    return base64.b64encode(levels.tobytes()).decode("ascii")


def finite(value: Any) -> Any:
    """The same JSON with null for numbers that JSON has no word for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return value
