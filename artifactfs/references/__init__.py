"""References: entries whose bytes lie elsewhere. One module for each place, and the table from scheme to module."""
