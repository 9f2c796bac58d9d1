"""artifactfs: versioned artifacts that any tool can read as plain directories."""
