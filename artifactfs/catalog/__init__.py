"""The catalog: collections, versions, aliases, links, runs, and where blobs lie, in SQL."""
