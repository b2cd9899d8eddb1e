"""Hashes a growing list of lines to a tree, as RFC 9162 section 2.1 does: one root stands for all lines before it."""

from __future__ import annotations

import hashlib

EMPTY = hashlib.sha256(b"").digest()


def leaf(line: bytes) -> bytes:
    return hashlib.sha256(b"\0" + line).digest()


def node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


class Tree:
    """Holds the roots of the perfect subtrees only: as many hashes as the number of lines has bits set."""

    def __init__(self) -> None:
        self.size = 0
        self._roots: list[bytes] = []

    def add(self, line: bytes) -> None:
        found, size = leaf(line), self.size
        while size & 1:
            found = node(self._roots.pop(), found)
            size >>= 1
        self._roots.append(found)
        self.size += 1

    def root(self) -> bytes:
        """Returns the root over all lines so far."""
        if not self._roots:
            return EMPTY
        *others, found = self._roots
        for left in reversed(others):
            found = node(left, found)
        return found
