"""Image files to arrays: 8 bits, upright, one size, channels first."""

import warnings
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np

from nacs.data.base import Array
from nacs.data.unpacking import check_growth
from nacs.errors import UserError

__all__ = ["decode_image", "decode_images", "stack_images"]

GREY = {"1", "L", "LA"}
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
"""Whatever a file is called; others, as PostScript, are read by other programs."""

COLOUR = {"RGB", "RGBA", "P", "PA", "CMYK", "YCbCr", "HSV", "LAB", "RGBX"}


def decode_image(source: bytes | Path, where: str, size: int | None = None) -> Array:
    """Decode one image.

    Args:
        source: The encoded image, or its path.
        where: What error messages call it.
        size: Scale the short side to this many pixels and cut out the middle square.

    Returns:
        channels height width, uint8; one channel for grey, three for colour.

    Raises:
        UserError: not an image, more than 8 bits a channel, or too many pixels.
    """
    from PIL import Image, ImageOps

    opened = BytesIO(source) if isinstance(source, bytes) else source
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what a broken file lacks
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(opened, formats=FORMATS) as image:
                mode = image.mode
                if mode not in GREY | COLOUR:
                    raise UserError(f"{where}: expected 8 bits a channel, got {mode}")
                upright = ImageOps.exif_transpose(image)
                pixels = upright.convert("L" if mode in GREY else "RGB")
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise UserError(f"{where}: image too large: {error}") from error
    except UserError:
        raise
    except Exception as error:  # decoders raise whatever a broken file leads to
        raise UserError(f"{where}: expected an image, got {error}") from error
    if size is not None:
        pixels = ImageOps.fit(pixels, (size, size))
    array = np.asarray(pixels, dtype=np.uint8)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def decode_images(
    sources: Iterable[tuple[bytes | Path, str]], where: str, size: int | None = None
) -> list[Array]:
    """Decode images, of which a thousand bytes each can hold a million pixels.

    Args:
        sources: The encoded images or their paths, and what messages call each.
        where: What messages call all of them.
        size: As for `decode_image`.

    Raises:
        UserError: As for `decode_image`, or all together take far more memory than
            they are bytes.
    """
    images: list[Array] = []
    unpacked = packed = 0
    for source, name in sources:
        images.append(decode_image(source, name, size))
        unpacked += images[-1].nbytes
        packed += len(source) if isinstance(source, bytes) else source.stat().st_size
        check_growth(where, unpacked, packed)
    return images


def stack_images(images: Sequence[Array], ids: Sequence[str], where: str) -> Array:
    """Stack images of one size; grey ones become colour if any is colour.

    Returns:
        images channels height width, uint8.

    Raises:
        UserError: no images, or their sizes differ.
    """
    if not images:
        raise UserError(f"{where}: expected images, got none")
    channels = max(image.shape[0] for image in images)
    height, width = images[0].shape[1:]
    stacked = np.empty((len(images), channels, height, width), dtype=np.uint8)
    for row, image in enumerate(images):
        if image.shape[1:] != (height, width):
            raise UserError(
                f"{where}: expected images of one size, got {width}x{height} for "
                f"{ids[0]} and {image.shape[2]}x{image.shape[1]} for {ids[row]}; "
                "give a size to scale to: --size 64, or load(path, size=64)"
            )
        stacked[row] = image
    return stacked
