"""What is fuzzed: a reader, good inputs to start from, and where the bytes go.

    bytes → a file of the reader's kind → the reader → something, or a UserError

Anything else that comes out of a reader is a crash, and so is a message that does not
name the file.
"""

import gzip
import io
import json
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from nacs import data
from nacs.data.base import DataFacts
from nacs.data.named import find_published
from nacs.data.unlabelled import read_unlabelled
from nacs.errors import UserError
from nacs.runs import facts_of, load_run, load_tensors, read_metrics, save_run

SEPARATOR = b"-----"
"""Between the members of an archive, in the bytes of a target that packs them."""

Read = Callable[[Path], object]


@dataclass(frozen=True)
class Target:
    """A reader and what it is fed."""

    file: str
    """Where the bytes are put, below a folder of the target's own."""

    seeds: list[bytes]
    """Good inputs, from which mutations start."""

    read: Read
    """What is called with that folder."""

    pack: Callable[[bytes], bytes] = bytes
    """From the fuzzer's bytes to the file's."""

    beside: Callable[[Path], object] = lambda folder: folder
    """Puts there what the reader needs as well."""


def feed(target: Target, folder: Path, given: bytes) -> None:
    """Have the target read these bytes; anything but UserError comes out."""
    path = folder / target.file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(target.pack(given))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            target.read(folder)
    except UserError as error:
        names = (folder.name, path.name, path.parent.name)
        if not any(name in str(error) for name in names):
            raise AssertionError(f"names nothing: {error}") from error


def _csv() -> list[bytes]:
    rows = [f"s{i},{t},{i * t / 7:.2f},{'ab'[i % 2]}" for i in range(8) for t in (0, 1)]
    table = "\n".join(["id,time,v,label", *rows]).encode()
    more = b"id,time,v,w,target,split,group\n" + b"".join(
        b"%d,0,1.5,,%d,%s,g%d\n" % (i, i, (b"train", b"val", b"test")[i % 3], i)
        for i in range(9)
    )
    return [table, more]


def _jsonl() -> list[bytes]:
    rows = [{"text": f"word {i}", "label": "ab"[i % 2]} for i in range(8)]
    numbers = [{"text": "ü", "target": i / 3, "id": i, "group": i} for i in range(8)]
    return ["\n".join(map(json.dumps, each)).encode() for each in (rows, numbers)]


def _nlvr() -> list[bytes]:
    item = {"x_loc": 10, "y_loc": 20, "size": 20, "type": "square", "color": "Yellow"}
    rows = [
        {
            "sentence": f"there are {i} boxes",
            "label": ("true", "false")[i % 2],
            "identifier": f"{i}-0",
            "structured_rep": [[item], [], [item | {"type": "circle"}]],
        }
        for i in range(8)
    ]
    return ["\n".join(map(json.dumps, rows)).encode()]


def saved(array: object) -> bytes:
    """An array as a file .npy."""
    stream = io.BytesIO()
    np.save(stream, np.asarray(array))
    return stream.getvalue()


def packed(members: dict[str, bytes]) -> bytes:
    """An uncompressed zip archive."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, each in members.items():
            archive.writestr(name, each)
    return stream.getvalue()


def _zipped(*names: str) -> Callable[[bytes], bytes]:
    """Packs the parts of the fuzzer's bytes under these names, checksums right."""

    def pack(given: bytes) -> bytes:
        return packed(dict(zip(names, given.split(SEPARATOR), strict=False)))

    return pack


def image(form: str, mode: str = "RGB", size: tuple[int, int] = (6, 5)) -> bytes:
    """A small picture."""
    stream = io.BytesIO()
    Image.effect_noise(size, 50).convert(mode).save(stream, form)
    return stream.getvalue()


def _images(folder: Path) -> None:
    """Good pictures beside the one that is fuzzed."""
    for name in ("a/1.png", "a/2.png", "b/1.png", "b/2.png", "b/3.png"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image("PNG"))


def _clouds(folder: Path) -> None:
    for name in ("a/1.xyz", "a/2.xyz", "b/1.xyz", "b/2.xyz", "b/3.xyz"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("0 0 0\n1 1 1\n")


def _idx(shape: tuple[int, ...]) -> bytes:
    head = bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
    return head + bytes(i % 2 for i in range(int(np.prod(shape))))


def _digits(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for part, count in (("train", 30), ("t10k", 10)):
        for what, shape in (("images-idx3", (count, 4, 4)), ("labels-idx1", (count,))):
            path = folder / f"{part}-{what}-ubyte.gz"
            path.write_bytes(gzip.compress(_idx(shape)))


def _tar(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, each in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(each)
            archive.addfile(member, io.BytesIO(each))
    return stream.getvalue()


def _cifar() -> list[bytes]:
    record = bytes([1]) + bytes(3072)
    names = ("data_batch_1.bin", "test_batch.bin")
    return [_tar({f"cifar-10-batches-bin/{name}": record * 3 for name in names})]


def _reviews() -> list[bytes]:
    places = [f"{p}/{c}" for p in ("train", "test") for c in ("pos", "neg")]
    return [_tar({f"aclImdb/{p}/{i}_1.txt": b"good" for p in places for i in range(4)})]


def _tiny() -> list[bytes]:
    root = "tiny-imagenet-200"
    files = {
        f"{root}/words.txt": b"n1\tcat\nn2\tdog\n",
        f"{root}/val/val_annotations.txt": b"a.JPEG\tn1\t0\nb.JPEG\tn2\t0\n",
        f"{root}/val/images/a.JPEG": image("JPEG"),
        f"{root}/val/images/b.JPEG": image("JPEG"),
    }
    for label in ("n1", "n2"):
        for row in range(4):
            files[f"{root}/train/{label}/images/{row}.JPEG"] = image("JPEG")
    return [packed(files)]


def small_run(folder: Path, name: str = "attentive") -> Path:
    """A run folder with untrained weights."""
    from nacs.models import lookup
    from nacs.recipe import TrainConfig
    from nacs.runs import describe_run
    from nacs.tasks import fitted

    dataset, row = data.load("digits"), lookup(name)
    sizes = fitted(row.preset("tiny"), dataset)
    config = describe_run(name, sizes, TrainConfig(), dataset)
    save_run(folder, config, row.build(sizes).state_dict())
    return folder


def _run_seeds(name: str) -> list[bytes]:
    import tempfile

    with tempfile.TemporaryDirectory() as made:
        return [(small_run(Path(made)) / name).read_bytes()]


def _weights() -> list[bytes]:
    import torch
    from safetensors.torch import save

    kinds = (torch.float32, torch.bfloat16, torch.int64, torch.bool)
    return [save({f"layer.{k}": torch.ones(2, 3).to(k) for k in kinds})]


def _load_run(folder: Path) -> None:
    facts_of(load_run(folder)[1])


UNLABELLED = DataFacts(
    source="x",
    kind="image",
    shape=(3, 5, 6),
    classes=("a", "b"),
    columns=(),
    size=None,
    length=None,
    mean=None,
    deviation=None,
)


def _parquet() -> list[bytes]:
    import pyarrow as pa  # pyright: ignore[reportMissingTypeStubs]
    import pyarrow.parquet as parquet  # pyright: ignore[reportMissingTypeStubs]

    table = pa.table(
        {
            "id": [str(i) for i in range(8)],
            "time": [0.0] * 8,
            "v": [float(i) for i in range(8)],
            "label": ["a", "b"] * 4,
        }
    )
    stream = io.BytesIO()
    parquet.write_table(table, stream)
    return [stream.getvalue()]


def _join(*arrays: object) -> bytes:
    return SEPARATOR.join(map(saved, arrays))


def _file(name: str) -> Read:
    return lambda folder: data.load(folder / name)


def targets() -> dict[str, Target]:
    """Every reader by name."""
    rng = np.random.default_rng(0)
    pictures, answers = rng.integers(0, 255, (8, 4, 4), np.uint8), np.arange(8) % 2
    rows, edges = rng.random((16, 3)), np.arange(0, 17, 2)
    blob = np.frombuffer(image("PNG") * 8, np.uint8)
    steps = np.arange(0, len(blob) + 1, len(blob) // 8)
    cloud = [b"0 0 0\n1 2 3\n4 5 6\n", b"0,0,0,9\n1,1,1,9 # note\n"]
    mesh = b"OFF\n4 2 0\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n3 0 1 2\n3 0 1 3\n"
    return {
        "csv": Target("t.csv", _csv(), _file("t.csv")),
        "csv.gz": Target(
            "t.csv.gz", [gzip.compress(each) for each in _csv()], _file("t.csv.gz")
        ),
        "parquet": Target("t.parquet", _parquet(), _file("t.parquet")),
        "jsonl": Target("t.jsonl", _jsonl(), _file("t.jsonl")),
        "nlvr": Target("t.json", _nlvr(), _file("t.json")),
        "npz images": Target(
            "t.npz",
            [_join(pictures, answers), _join(rng.random((8, 4, 4)), rng.random(8))],
            _file("t.npz"),
            _zipped("x.npy", "y.npy", "kind.npy"),
        ),
        "npz series": Target(
            "t.npz",
            [_join(rows, edges, answers)],
            _file("t.npz"),
            _zipped("data.npy", "offsets.npy", "labels.npy", "groups.npy"),
        ),
        "npz encoded": Target(
            "t.npz",
            [_join(blob, steps, answers)],
            _file("t.npz"),
            _zipped("blob.npy", "offsets.npy", "labels.npy", "is_test.npy"),
        ),
        "npz archive": Target(
            "t.npz",
            [packed({"x.npy": saved(pictures), "y.npy": saved(answers)})],
            _file("t.npz"),
        ),
        "images": Target(
            "b/0.png",
            [image("PNG"), image("GIF", "P"), image("JPEG"), image("BMP", "L")]
            + [image("TIFF"), image("WEBP"), image("PNG", "I;16")],
            data.load,
            beside=_images,
        ),
        "clouds": Target("b/0.xyz", cloud, data.load, beside=_clouds),
        "meshes": Target("b/0.off", [mesh], data.load, beside=_clouds),
        "asked": Target(
            "asked.png",
            [image("PNG"), image("JPEG")],
            lambda folder: read_unlabelled([folder / "asked.png"], UNLABELLED),
        ),
        "mnist": Target(
            "train-images-idx3-ubyte.gz",
            [_idx((30, 4, 4))],
            find_published,
            gzip.compress,
            _digits,
        ),
        "cifar-10": Target(
            "cifar-10-binary.tar.gz", _cifar(), _file("cifar-10-binary.tar.gz")
        ),
        "imdb": Target("aclImdb_v1.tar.gz", _reviews(), _file("aclImdb_v1.tar.gz")),
        "tiny-imagenet": Target(
            "tiny-imagenet-200.zip", _tiny(), _file("tiny-imagenet-200.zip")
        ),
        "tensors": Target(
            "t.safetensors",
            _weights(),
            lambda folder: load_tensors(folder / "t.safetensors"),
        ),
        "checkpoint": Target(
            "checkpoint/model.safetensors",
            _run_seeds("checkpoint/model.safetensors"),
            _load_run,
            beside=small_run,
        ),
        "config.json": Target(
            "config.json", _run_seeds("config.json"), _load_run, beside=small_run
        ),
        "metrics.jsonl": Target(
            "metrics.jsonl",
            [b'{"epoch": 1, "loss": 0.5}\n{"epoch": 2, "loss": NaN}\n'],
            lambda folder: read_metrics(folder / "metrics.jsonl"),
        ),
    }


def mutated(seed: bytes, random: np.random.Generator) -> bytes:
    """A few changes of the kinds that break readers: bytes, cuts, copies, numbers."""
    given = bytearray(seed)
    for _ in range(random.integers(1, 6)):
        at = int(random.integers(0, len(given) + 1))
        far = at + int(random.integers(1, 9))
        change = int(random.integers(0, 6))
        if change == 0 and at < len(given):
            given[at] = int(random.integers(0, 256))
        elif change == 1:
            del given[at:far]
        elif change == 2:
            given[at:at] = given[at:far]
        elif change == 3:
            given[at:at] = PIECES[int(random.integers(0, len(PIECES)))]
        elif change == 4:
            given[at:far] = PIECES[int(random.integers(0, len(PIECES)))]
        elif random.random() < 0.2:
            del given[at:]
    return bytes(given)


PIECES = (
    *(b"9" * 400, b"1e999", b"-1", b"nan", b"inf", b"null", b"[]", b"{}", b'""', b"0"),
    *(b"\xff\xff\xff\xff", b"\x00" * 8, b"\xed\xa0\x80", b"\r", b"\n", b'"', b","),
    *(b"1e300", b"99999999999", b"true", b"[" * 3000, b"\xc3\xa9", b"\x7f" * 7),
)

__all__ = ["Target", "feed", "image", "mutated", "packed", "saved", "targets"]
