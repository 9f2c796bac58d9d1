"""Reading: from a blob's name to its bytes, wherever they lie, fetching only what is read."""
