"""The mount: a store, or a part of it, as a read-only file system."""
