"""Images out of distribution: 19 corruptions of growing severity.

References:
    Hendrycks, Dietterich, Benchmarking Neural Network Robustness to Common Corruptions
    and Perturbations, ICLR 2019. https://arxiv.org/abs/1903.12261
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from nacs.data.base import Split
from nacs.errors import UserError

__all__ = ["CORRUPTIONS", "corrupted"]

CORRUPTIONS = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"),
    *("gaussian_blur", "glass_blur", "defocus_blur", "motion_blur", "zoom_blur"),
    *("fog", "frost", "snow", "spatter", "contrast", "brightness", "saturate"),
    *("jpeg_compression", "pixelate", "elastic_transform"),
)


def corrupted(split: Split, name: str, *, severity: int = 3, seed: int = 0) -> Split:
    """The same images, corrupted; grey ones as if they had three equal colours.

    Args:
        split: Of 8-bit images, channels first.
        name: One of `CORRUPTIONS`.
        severity: 1 to 5.
        seed: Of the corruption's noise.

    Raises:
        UserError: If corrupt-tta is missing, or the samples are no such images.
    """
    try:
        from corrupt_tta import corrupt, corruptions
    except ImportError as error:
        raise UserError(
            "corruptions need corrupt-tta; install it with: "
            "pip install 'nacs[experiments]'"
        ) from error
    images = split.inputs
    here = isinstance(images, np.ndarray)
    if not here or images.dtype != np.uint8 or images.ndim != 4:
        raise UserError("expected 8-bit images (samples, channels, height, width)")
    if name not in CORRUPTIONS:
        raise UserError(
            f"there is no corruption '{name}'; there are {', '.join(CORRUPTIONS)}."
        )
    with _noise_of(corruptions, seed):
        spoilt = np.stack([_spoilt(corrupt, image, name, severity) for image in images])
    return replace(split, inputs=spoilt)


@contextmanager
def _noise_of(library: Any, seed: int) -> Generator[None, None, None]:
    """Noise of a seed: numpy's own, and scikit-image's, which draws afresh if let."""
    state: Any = np.random.get_state()  # noqa: NPY002 - the library draws from it
    free = library.random_noise
    np.random.seed(seed)  # noqa: NPY002
    library.random_noise = partial(free, rng=np.random.default_rng(seed))
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
        library.random_noise = free


def _spoilt(corrupt: Any, image: Any, name: str, severity: int) -> Any:
    """One image, channels first."""
    channels = len(image)
    colours = np.repeat(image, 3, axis=0) if channels == 1 else image
    found = corrupt(colours.transpose(1, 2, 0), severity, corruption_name=name)
    found = np.clip(np.rint(found), 0, 255).astype(np.uint8).transpose(2, 0, 1)
    return found[:1] if channels == 1 else found
