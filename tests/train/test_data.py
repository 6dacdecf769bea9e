"""Digits, .npz files, and the sentence each wrong file gets."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits as sklearn_digits

from cnnc.errors import UsageError
from cnnc.train import load_data
from cnnc.train.arrays import read_array

SHAPE = (5, 4, 2)


def arrays(count: int = 10, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {"x": rng.standard_normal((count, *SHAPE)), "y": rng.integers(0, 3, count)}


def save(folder: Path, **content: np.ndarray) -> str:
    path = folder / "data.npz"
    np.savez(path, **content)
    return str(path)


def load_error(source: str, shape: tuple[int, ...] = SHAPE, classes: int = 3) -> str:
    with pytest.raises(UsageError) as caught:
        load_data(source, shape, classes)
    return str(caught.value).removeprefix(f"{source}: ")


def test_digits_are_split_into_1437_and_360() -> None:
    data = load_data("digits", (32, 32, 1), 10, seed=3)
    assert data.train.x.shape == (1437, 32, 32, 1)
    assert data.validation.x.shape == (360, 32, 32, 1)
    assert data.train.x.dtype == np.float32
    assert data.train.y.dtype == np.int32
    labels = np.concatenate([data.train.y, data.validation.y])
    assert np.array_equal(np.bincount(labels), np.bincount(sklearn_digits().target))


def test_the_split_depends_on_the_seed_alone() -> None:
    first, again, other = (load_data("digits", (8, 8, 1), 10, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.validation.x, again.validation.x)
    assert not np.array_equal(first.validation.y, other.validation.y)


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (32, 32, 3), (40, 31, 1)])
def test_digits_are_centred_by_mass_and_scaled(shape: tuple[int, int, int]) -> None:
    data = load_data("digits", shape, 10)
    x = np.concatenate([data.train.x, data.validation.x]).astype(np.float64)
    assert x.mean() == pytest.approx(0, abs=1e-6)
    assert x.std() == pytest.approx(1, abs=1e-6)
    assert (x == x[..., :1]).all()
    ink = x[..., 0] - x.min()
    for axis, extent in ((1, shape[1]), (2, shape[0])):
        profile = ink.sum(axis=axis)
        centre = profile @ np.arange(profile.shape[1]) / profile.sum(axis=1)
        # Rounding to pixels moves it a little; on 8x8 some digits lose ink at the edge as well.
        assert np.abs(centre - (profile.shape[1] - 1) / 2).max() < (0.2 if extent > 8 else 0.5)


def test_a_scan_enlarged_is_that_scan() -> None:
    data = load_data("digits", (32, 32, 1), 10)
    x = np.concatenate([data.train.x, data.validation.x])[..., 0].reshape(1797, -1)
    scans = sklearn_digits().data
    # Ink is conserved by interpolation away from edges, so the amounts of ink agree up to scale, in some order.
    ink, expected = np.sort((x - x.min()).sum(axis=1)), np.sort(scans.sum(axis=1))
    assert ink / ink.mean() == pytest.approx(expected / expected.mean(), rel=0.02)


def test_bytes_become_numbers_from_0_to_1(tmp_path: Path) -> None:
    x = np.array([0, 255, 51, 102], np.uint8).reshape(4, 1, 1)
    path = save(tmp_path, x_train=x, y_train=np.array([[0], [1], [0], [1]]), x_test=x, y_test=np.array([0, 1, 0, 1]))
    data = load_data(path, (1, 1, 1), 2)
    assert data.train.x.shape == (4, 1, 1, 1)
    assert data.train.x.ravel().tolist() == pytest.approx([0, 1, 0.2, 0.4])
    assert data.train.y.tolist() == data.validation.y.tolist() == [0, 1, 0, 1]


def test_npz_without_a_test_part_is_split(tmp_path: Path) -> None:
    content = arrays(10)
    data = load_data(save(tmp_path, **content), SHAPE, 3, seed=5)
    assert (len(data.train), len(data.validation)) == (8, 2)
    together = np.concatenate([data.train.x, data.validation.x])
    assert np.array_equal(np.sort(together, axis=None), np.sort(content["x"].astype(np.float32), axis=None))


def test_a_wrong_shape_names_both(tmp_path: Path) -> None:
    assert load_error(save(tmp_path, **arrays()), (4, 5, 2)) == "images are 5x4x2, the network's input is 4x5x2"


def test_a_label_out_of_range_is_named(tmp_path: Path) -> None:
    content = arrays()
    content["y"][:] = 1
    content["y"][7:] = 3
    assert load_error(save(tmp_path, **content)) == "label 3 at index 7 is out of range: the network has 3 classes"
    content["y"][4] = -1
    assert load_error(save(tmp_path, **content)).startswith("label -1 at index 4 is out of range")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_a_pixel_that_is_no_number_is_named(tmp_path: Path, value: float) -> None:
    content = arrays()
    content["x"][6, 1, 1, 0] = value
    assert load_error(save(tmp_path, **content)) == "image 6 has pixels that are not finite numbers"


def test_wrong_labels(tmp_path: Path) -> None:
    content = arrays()
    short = save(tmp_path, x=content["x"], y=content["y"][:9])
    assert load_error(short) == "10 images need labels of shape (10,), not (9,)"
    assert load_error(save(tmp_path, x=content["x"], y=content["y"] * 1.0)) == "labels must be integers, not float64"


def test_missing_keys_are_listed(tmp_path: Path) -> None:
    message = load_error(save(tmp_path, images=np.zeros(3), y=np.zeros(3)))
    assert message == "needs the keys x and y, or x_train and y_train; found images, y"


def test_too_few_images(tmp_path: Path) -> None:
    assert load_error(save(tmp_path, **arrays(0))) == "no images"
    assert load_error(save(tmp_path, **arrays(1))) == "one image can't be split into training and validation"


def test_images_of_text_are_refused(tmp_path: Path) -> None:
    assert load_error(save(tmp_path, x=np.array(["a"]), y=np.zeros(1, int))) == "images must be numbers, not <U1"


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, x=np.array([{}], object), y=np.zeros(1, int))
    assert load_error(str(path)) == "not a readable .npz file of numbers"


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00", b"\x00\xff" * 500])
def test_damaged_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "data.npz"
    path.write_bytes(content)
    assert load_error(str(path)) == "not a readable .npz file of numbers"
    with pytest.raises(UsageError, match=r"not a readable \.npy file of numbers"):
        read_array(str(path))


def test_one_array_instead_of_an_archive_and_the_reverse(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    assert load_error(str(path)) == "one array; give an .npz archive with keys x and y"
    with pytest.raises(UsageError, match=r"an \.npz archive; give an \.npy file with one array"):
        read_array(save(tmp_path, **arrays()))


def test_unknown_names_say_what_there_is() -> None:
    assert load_error("mnist") == "no data called 'mnist': give digits or a file name that ends in .npz"


def test_digits_need_room_and_ten_classes() -> None:
    assert load_error("digits", (7, 32, 1), 10) == "digits needs an input of at least 8x8x1, the network's is 7x32x1"
    assert load_error("digits", (64,), 10) == "digits needs an input of at least 8x8x1, the network's is 64"
    assert load_error("digits", (8, 8, 1), 9).endswith("is out of range: the network has 9 classes")


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert load_error("digits", (8, 8, 1), 10) == "digits comes from scikit-learn: pip install 'cnnc[data]'"


def test_label_maps(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 5, 2)), rng.integers(0, 3, (6, 5))
    path = save(tmp_path, x=x, y=y[..., None])
    data = load_data(path, (5, 2), 3, label_shape=(5,))
    assert data.train.y.shape == (4, 5)
    path = save(tmp_path, x=x, y=y)
    with pytest.raises(UsageError, match=r"6 images need labels of shape \(6, 4\), not \(6, 5\)"):
        load_data(path, (5, 2), 3, label_shape=(4,))
    with pytest.raises(UsageError, match=r"label 2 at index \(\d, \d\) is out of range: the network has 2 classes"):
        load_data(path, (5, 2), 2, label_shape=(5,))
    path = save(tmp_path, x=x, y=y[:, 0])
    assert load_data(path, (5, 2), 3, label_shape=(1, 1)).train.y.shape == (4, 1, 1)
    with pytest.raises(UsageError, match="not \\(6,\\); for one label per image end the program with `fc`"):
        load_data(path, (5, 2), 3, label_shape=(5,))
