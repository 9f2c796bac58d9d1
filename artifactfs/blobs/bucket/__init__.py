"""Bucket: blobs as objects of an object store: S3, GCS, Azure, and what speaks like them."""
