"""Files that are replaced as a whole: whoever reads one finds the old contents or the new, never a part."""

from __future__ import annotations

import os
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: Path) -> Generator[BinaryIO]:
    """A new file beside `path`, which takes its place once the block ends; if it raises, `path` is what it was.

    Raises OSError where nothing can be written.
    """
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        with beside.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """As a whole, in UTF-8. Raises OSError where nothing can be written."""
    with replacing(path) as file:
        file.write(text.encode())
