"""Pictures become the batch that torchvision's own evaluation would make of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.transforms._presets import ImageClassification

from splitnet.errors import SettingsError
from splitnet.models.images import load_images


def picture(path: Path, width: int, height: int, seed: int) -> Image.Image:
    pixels = torch.randint(
        0, 256, (height, width, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )
    image = Image.fromarray(pixels.numpy())
    image.save(path)
    return image


@pytest.mark.parametrize(("width", "height"), [(48, 32), (32, 70), (20, 20)])
def test_a_picture_is_what_torchvisions_evaluation_makes_of_it(tmp_path: Path, width: int, height: int) -> None:
    image = picture(tmp_path / "one.png", width, height, 1)
    found = load_images(tmp_path / "one.png", (2, 3, 32, 32))
    expected = ImageClassification(crop_size=32, resize_size=32, antialias=True)(image)
    assert found.shape == (2, 3, 32, 32)
    for row in found:
        torch.testing.assert_close(row, expected)


def test_a_folder_gives_its_pictures_by_name_and_begins_again(tmp_path: Path) -> None:
    for name, seed in (("b.png", 2), ("a.png", 1)):
        picture(tmp_path / name, 40, 40, seed)
    (tmp_path / "notes.txt").write_text("no picture")
    first, second, third = load_images(tmp_path, (3, 3, 16, 16))
    assert torch.equal(first, load_images(tmp_path / "a.png", (1, 3, 16, 16))[0])
    assert torch.equal(second, load_images(tmp_path / "b.png", (1, 3, 16, 16))[0])
    assert torch.equal(first, third)
    assert not torch.equal(first, second)


def test_what_is_no_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    (tmp_path / "empty").mkdir()
    for path, why in (
        (tmp_path / "broken.png", "it is no picture"),
        (tmp_path / "absent.png", "no such file"),
        (tmp_path / "empty", "has no pictures"),
    ):
        with pytest.raises(SettingsError, match=why) as caught:
            load_images(path, (1, 3, 8, 8))
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_model_that_takes_no_pictures_says_so(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="not pictures"):
        load_images(tmp_path, (1, 3, 16, 112, 112))
