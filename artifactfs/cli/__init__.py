"""The command line: words in, a store called, text or JSON out."""

PROGRAM = "artifactfs"
