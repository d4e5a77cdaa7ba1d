"""Keys that were revoked, in a file beside the database: a restored backup must not let them in again."""

from __future__ import annotations

import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)

FILE_NAME = "revoked_keys"


class Tombstones:
    """An append-only file of lines ``-KEY`` (revoked) and ``+KEY`` (brought back by its owner); the last one counts.

    The database has the same in ``revoked_keys``; the file is for the day when that database is lost.
    """

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / FILE_NAME

    def revoke(self, public_key: str) -> None:
        """Note that a key is revoked; on disk when this returns. A full disk is logged: the database knows too."""
        self._append(f"-{public_key}\n")

    def bring_back(self, public_key: str) -> None:
        """Note that a key is good again."""
        self._append(f"+{public_key}\n")

    def read(self) -> frozenset[str]:
        """Return the keys that are revoked; none where there is no file. A line that was cut short is left out."""
        revoked: set[str] = set()
        try:
            text = self.path.read_text(encoding="ascii", errors="replace")
        except FileNotFoundError:
            return frozenset()
        for line in text.splitlines():
            mark, key = line[:1], line[1:]
            if mark == "-" and len(key) == 44:
                revoked.add(key)
            elif mark == "+":
                revoked.discard(key)
        return frozenset(revoked)

    def _append(self, line: str) -> None:
        try:
            fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                os.write(fd, line.encode("ascii"))
                os.fdatasync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            log.error("%s could not be written: %s", self.path.name, error.strerror)  # noqa: TRY400
