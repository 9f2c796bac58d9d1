"""Memory files for tests, closed with the last reference: a suite makes hundreds, and descriptors are few."""

from __future__ import annotations

import os
import weakref

from artifactfs.mount.fuse.memory import Memory


def fresh_memory() -> Memory:
    """A fresh memory file."""
    descriptor = Memory.create()
    memory = Memory(descriptor)
    weakref.finalize(memory, os.close, descriptor)
    return memory
