"""The stock of real pictures: the JPEG, PNG and WebP files of a folder, in name order."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from collector.simulator import anatomy
from collector.simulator.draws import Draws
from collector.simulator.padding import LEAD_MIN_BYTES, can_pad
from collector.simulator.stock import JPEG, PNG, WEBP, Picture, Shape, Split

_log = logging.getLogger(__name__)

# Pillow's names. MPO is a JPEG with further pictures behind the first one.
_FORMATS = {"JPEG": JPEG, "MPO": JPEG, "PNG": PNG, "WEBP": WEBP}


class EmptyFolderError(ValueError):
    """No file of `folder` is a readable JPEG, PNG or WebP picture."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"{folder}: no readable JPEG, PNG or WebP picture in this folder")
        self.folder = folder


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    shape: Shape
    size_bytes: int


class FolderStock:
    """Serves the files of a folder, as they are while there is one for each item.

    With more items than files, the files repeat, and JPEG and PNG are padded with their item's
    id so that no two items have equal bytes; repeated WebP files stay as they are.
    Reads the header of every file once; call it in a worker thread. Raises EmptyFolderError.
    """

    def __init__(self, folder: Path, wallpapers: int) -> None:
        paths = sorted(folder.iterdir()) if folder.is_dir() else []
        self._files = [file for path in paths if (file := _inspect(path)) is not None]
        if not self._files:
            raise EmptyFolderError(folder)
        self._repeats = wallpapers > len(self._files)
        self.shapes = [file.shape for file in self._files]
        # Always empty: files are read each time, so that memory stays bounded.
        self.at_hand: dict[Picture, Split] = {}

    def shape_number(self, draws: Draws) -> int:
        """Return the number of the item's file: each has a shape of its own."""
        return draws.item % len(self._files)

    def file_bytes(self, draws: Draws) -> int:
        """Return the file's size in bytes, with the padding it will get."""
        file = self._files[self.shape_number(draws)]
        padded = self._repeats and can_pad(file.shape.file_type)
        return file.size_bytes + (LEAD_MIN_BYTES if padded else 0)

    def load(self, picture: Picture) -> Split:
        """Return the file's content."""
        file = self._files[picture.shape]
        return anatomy.split(file.path.read_bytes(), file.shape.file_type)


def _inspect(path: Path) -> _File | None:
    """Return what the file's header says, None if it is no picture that can be served."""
    if not path.is_file():
        return None
    try:
        with Image.open(path) as picture:
            file_type = _FORMATS.get(picture.format or "")
            size = picture.size
    except (OSError, Image.DecompressionBombError) as error:
        _log.warning("skipped %s: %s", path, error)
        return None
    if file_type is None:
        _log.warning("skipped %s: neither JPEG, PNG nor WebP", path)
        return None
    return _File(path, Shape(*size, file_type), path.stat().st_size)
