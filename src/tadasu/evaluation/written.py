"""Files that appear whole or not at all, and a message where there is no room for them."""

from __future__ import annotations

from pathlib import Path

from tadasu.errors import BadFile, shown


def write(path: Path, text: str) -> Path:
    """Write a text in UTF-8; what stood there before stays until all of it is on the disk.

    Raises:
        BadFile: it cannot be written; nothing of it is left behind.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        return partial.replace(path)
    except OSError as error:
        if partial.exists():
            partial.unlink()
        raise BadFile(f"Cannot write {shown(path, 300)}: {error}.") from error
