"""Folders of images, texts and clouds; the choice of a reader by the path."""

# torch leaves Tensor.tolist and the like untyped
# pyright: reportUnknownMemberType=false

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nacs.data import load
from nacs.data.base import Dataset
from nacs.data.clouds import read_off, read_xyz, sample_mesh
from nacs.data.images import decode_image
from nacs.data.readers import read
from nacs.errors import UserError

SHARED = Path(__file__).parents[3] / "shared" / "data"


def shared(name: str) -> Path:
    """Return a development file, or skip."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{name} of ../shared/data is absent")
    return path


def save_image(path: Path, shade: int, mode: str = "L", size: tuple[int, int] = (4, 3)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, shade if mode == "L" else (shade, 0, 0)).save(path)


def sizes(dataset: Dataset) -> list[int]:
    return [len(split) for split in (dataset.train, dataset.val, dataset.test)]


def refused(path: Path, message: str) -> None:
    """Assert that loading fails in one line that names the file."""
    with pytest.raises(UserError, match=message) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)


# folders


def test_a_folder_of_images(tmp_path: Path):
    for shade in range(20):
        save_image(tmp_path / ("cat" if shade % 2 else "dog") / f"{shade}.png", shade)
    (tmp_path / "README.md").write_text("left alone")
    save_image(tmp_path / "cat" / ".hidden.png", 9)
    dataset = load(tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert dataset.shape == (1, 3, 4)
    assert sizes(dataset) == [14, 2, 4]
    for split in (dataset.train, dataset.val, dataset.test):
        for image, target, name in zip(
            split.inputs, split.targets, split.ids, strict=True
        ):
            assert name == f"{dataset.classes[target]}/{image[0, 0, 0]}.png"


def test_split_folders_fix_the_split(tmp_path: Path):
    for shade in range(8):
        place = "test" if shade < 2 else "train"
        label = f"c{shade % 2}"
        save_image(tmp_path / place / label / "images" / f"{shade}.png", shade)
    dataset = load(tmp_path)
    assert dataset.classes == ("c0", "c1")
    assert sizes(dataset) == [4, 2, 2]
    assert sorted(dataset.test.ids) == ["test/c0/images/0.png", "test/c1/images/1.png"]


def test_grey_images_join_colour_ones(tmp_path: Path):
    for shade in range(10):
        mode = "RGB" if shade == 4 else "L"
        save_image(tmp_path / f"c{shade % 2}" / f"{shade}.png", shade, mode)
    samples = read(tmp_path)
    images = dict(zip(samples.ids.tolist(), samples.inputs, strict=True))
    assert images["c1/3.png"][:, 0, 0].tolist() == [3, 3, 3]
    assert images["c0/4.png"][:, 0, 0].tolist() == [4, 0, 0]


def test_images_of_many_sizes_need_a_size(tmp_path: Path):
    for shade in range(10):
        name = tmp_path / f"c{shade % 2}" / f"{shade}.png"
        save_image(name, shade, size=(4 + shade, 6))
    refused(tmp_path, "one size, got 4x6 for c0/0.png and 6x6 for c0/2.png")
    assert load(tmp_path, size=5).shape == (1, 5, 5)


def test_an_empty_folder(tmp_path: Path):
    refused(tmp_path, "expected class folders with files")


def test_an_empty_class_folder(tmp_path: Path):
    save_image(tmp_path / "a" / "0.png", 0)
    (tmp_path / "b").mkdir()
    with pytest.raises(UserError, match="b: expected files of a class, got an empty"):
        load(tmp_path)


def test_one_class_is_not_enough(tmp_path: Path):
    save_image(tmp_path / "a" / "0.png", 0)
    refused(tmp_path, "at least 2 class folders")


def test_a_file_without_class_folder(tmp_path: Path):
    save_image(tmp_path / "0.png", 0)
    with pytest.raises(UserError, match=r"0\.png: label missing"):
        load(tmp_path)


def test_files_of_two_kinds(tmp_path: Path):
    save_image(tmp_path / "a" / "0.png", 0)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "0.xyz").write_text("1 2 3")
    refused(tmp_path, "files of one kind, got image and points")


def test_half_a_split(tmp_path: Path):
    save_image(tmp_path / "a" / "0.png", 0)
    save_image(tmp_path / "test" / "b" / "0.png", 0)
    refused(tmp_path, "every file in a folder train, val or test")


def test_a_broken_image_is_named(tmp_path: Path):
    save_image(tmp_path / "a" / "0.png", 0)
    save_image(tmp_path / "b" / "1.png", 0)
    (tmp_path / "b" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    with pytest.raises(UserError, match=r"1\.png: expected an image"):
        load(tmp_path)


def test_sixteen_bits_and_bombs_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    deep = tmp_path / "deep.png"
    Image.fromarray(np.zeros((2, 2), np.uint16)).save(deep)
    with pytest.raises(UserError, match="8 bits a channel, got I;16"):
        decode_image(deep, "deep")
    save_image(tmp_path / "large.png", 0)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(UserError, match="image too large"):
        decode_image(tmp_path / "large.png", "large")


def test_a_folder_of_texts(tmp_path: Path):
    for row in range(10):
        (tmp_path / f"c{row % 2}").mkdir(exist_ok=True)
        (tmp_path / f"c{row % 2}" / f"{row}.txt").write_text("é" * (row + 1))
    dataset = load(tmp_path)
    assert (dataset.kind, dataset.shape) == ("bytes", (20,))
    (tmp_path / "c0" / "0.txt").write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"0\.txt: expected UTF-8"):
        load(tmp_path)
    (tmp_path / "c0" / "0.txt").write_text(" ")
    with pytest.raises(UserError, match=r"0\.txt: expected text, got an empty"):
        load(tmp_path)


# point clouds


def test_clouds_of_different_sizes(tmp_path: Path):
    for row in range(10):
        (tmp_path / f"c{row % 2}").mkdir(exist_ok=True)
        lines = [f"{point},{row} 0.5  # note" for point in range(row + 1)]
        text = "# x y z\n\n" + "\n".join(lines)
        (tmp_path / f"c{row % 2}" / f"{row}.xyz").write_text(text)
    dataset = load(tmp_path)
    assert (dataset.kind, dataset.shape) == ("points", (10, 3))
    batch = dataset.train.batch(range(len(dataset.train)))
    assert batch.keep is not None
    counts = [int(name[3:-4]) + 1 for name in dataset.train.ids]
    assert batch.keep.sum(1).tolist() == counts
    (tmp_path / "c0" / "0.xyz").write_text("1 2 3 4")
    refused(tmp_path, "equal columns in all files")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected points, got an empty file"),
        ("1 2 3\n1 2", "row 2: expected 3 numbers, got 2"),
        ("1 2", "row 1: expected 3 numbers, got 2"),
        ("1 2 x", "row 1: expected numbers"),
        ("1 2 nan", "row 1: expected finite numbers"),
    ],
)
def test_bad_clouds(tmp_path: Path, text: str, message: str):
    path = tmp_path / "cloud.xyz"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_xyz(path)


def test_a_mesh_is_sampled_by_area(tmp_path: Path):
    """A square of 4 and a triangle of 1/2: eight ninths of the points."""
    path = tmp_path / "mesh.off"
    corners = "0 0 0\n2 0 0\n2 2 0\n0 2 0\n0 0 9\n1 0 9\n0 1 9\n"
    path.write_text(f"OFF7 2 0\n{corners}4 0 1 2 3\n3 4 5 6\n")
    points = read_off(path)
    assert points.shape == (1024, 3)
    below = points[points[:, 2] < 1]
    # 5 standard deviations of a binomial draw of 1024
    assert len(below) / 1024 == pytest.approx(8 / 9, abs=0.05)
    assert below[:, :2].mean(0) == pytest.approx([1, 1], abs=0.1)
    above = points[points[:, 2] > 1]
    assert (above[:, 0] + above[:, 1] <= 1).all()
    assert (points == read_off(path)).all()


def test_a_mesh_without_area_gives_its_corners(tmp_path: Path):
    path = tmp_path / "mesh.off"
    path.write_text("OFF\n# no faces\n2 0 0\n1 2 3\n4 5 6\n")
    assert read_off(path).tolist() == [[1, 2, 3], [4, 5, 6]]
    flat = sample_mesh(np.zeros((3, 3)), np.array([[0, 1, 2]]), points=5)
    assert flat.shape == (3, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "begins with OFF"),
        ("OFF\n", "expected counts"),
        ("OFF\n9999999999 1 0\n1 2 3\n", "a line for each"),
        ("OFF\n1 0 0\n1 2\n", "vertices of 3 coordinates"),
        ("OFF\n1 1 0\n1 2 3\n3 0 0 7\n", "face 0: expected a count"),
        ("OFF\n1 0 0\n1 2 x\n", "vertex 0: expected numbers"),
    ],
)
def test_bad_meshes(tmp_path: Path, text: str, message: str):
    path = tmp_path / "mesh.off"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_off(path)


def test_a_cloud_that_is_not_text(tmp_path: Path):
    path = tmp_path / "cloud.xyz"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="cannot read as text"):
        read_xyz(path)


# paths


@pytest.mark.parametrize("name", ["data.docx", "data", "data.parquet.gz"])
def test_unknown_types(tmp_path: Path, name: str):
    (tmp_path / name).touch()
    refused(tmp_path / name, "unknown type")


def test_a_missing_path(tmp_path: Path):
    with pytest.raises(UserError, match="no such file or folder"):
        read(tmp_path / "gone.npz")


@pytest.mark.parametrize(
    ("name", "kind", "shape", "outputs", "counts"),
    [
        ("mnist70k.npz", "image", (1, 28, 28), 10, [54001, 5999, 10000]),
        ("arem_activity.npz", "series", (480, 7), 7, [59, 12, 17]),
        ("dales_objects_400.npz", "points", (2048, 3), 5, [279, 40, 80]),
        ("imdb_train.jsonl.xz", "bytes", (13704,), 2, [17500, 2500, 5000]),
    ],
)
def test_development_files(
    name: str, kind: str, shape: tuple[int, ...], outputs: int, counts: list[int]
):
    dataset = load(shared(name))
    assert (dataset.kind, dataset.shape, dataset.outputs) == (kind, shape, outputs)
    assert sizes(dataset) == counts
