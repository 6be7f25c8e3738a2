"""Real pictures as input: one file, or the files of a folder in the order of their names."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image, UnidentifiedImageError
from torchvision.transforms import functional

from splitnet.errors import SettingsError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""Of ImageNet's training set, which torchvision's published weights expect."""


def load_images(path: Path, shape: tuple[int, ...]) -> torch.Tensor:
    """Pictures as a batch of the model's input shape [B, 3, H, W]: shorter side resized, centre cropped, normalised.

    A folder gives its first B pictures, from the beginning again where it has fewer.

    Raises:
        SettingsError: the model takes no pictures, there are none, or one cannot be read.
    """
    if len(shape) != 4 or shape[1] != 3:
        raise SettingsError(
            f"--input {path}: the model takes [{', '.join(map(str, shape))}], not pictures [B, 3, H, W]"
        )
    batch, _, height, width = shape
    files = _files(path)
    return torch.stack([_load(files[index % len(files)], height, width) for index in range(batch)])


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise SettingsError(f"--input {path}: no such file or folder")
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
    if not files:
        raise SettingsError(f"--input {path}: the folder has no pictures ({', '.join(sorted(SUFFIXES))})")
    return files


def _load(path: Path, height: int, width: int) -> torch.Tensor:
    try:
        with Image.open(path) as image:
            picture = image.convert("RGB")
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        reason = "it is no picture" if isinstance(error, UnidentifiedImageError) else str(error)
        raise SettingsError(f"--input {path}: cannot be read: {reason}") from error
    scale = max(height / picture.height, width / picture.width)
    size = [max(height, round(picture.height * scale)), max(width, round(picture.width * scale))]
    resized = functional.center_crop(functional.resize(picture, size, antialias=True), [height, width])
    return functional.normalize(functional.to_tensor(resized), MEAN, STD)  # type: ignore[no-any-return]
