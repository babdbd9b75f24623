"""What a file is decides who reads it, not what it is called."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from nacs import data
from nacs.data.images import decode_image
from nacs.data.npz import load_arrays
from nacs.errors import UserError


def test_postscript_is_not_handed_to_its_interpreter(tmp_path):
    path = tmp_path / "picture.png"
    Image.new("L", (8, 8)).save(path, "EPS")
    with pytest.raises(
        UserError, match=r"picture\.png: expected an image, got cannot identify"
    ):
        decode_image(path, str(path))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM"])
def test_usual_pictures_are_read(tmp_path, kind):
    stream = io.BytesIO()
    Image.new("RGB", (8, 6), (200, 100, 50)).save(stream, kind)
    assert decode_image(stream.getvalue(), "it").shape == (3, 6, 8)


def test_an_axis_longer_than_the_file_is_refused(tmp_path):
    header = io.BytesIO()
    shape = (10**12, 0)
    fields = {"descr": "<f8", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, fields)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", header.getvalue())
    with pytest.raises(UserError, match="announces shape"):
        load_arrays(tmp_path / "a.npz")
    with pytest.raises(UserError, match="announces shape"):
        data.load(tmp_path / "a.npz")
