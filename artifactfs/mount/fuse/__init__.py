"""The kernel's FUSE protocol: its bytes, and what must outlive the process that speaks it."""
