"""Blobs: immutable bytes by name, over a directory, memory, or a bucket, and packs of small blobs over any of them."""
