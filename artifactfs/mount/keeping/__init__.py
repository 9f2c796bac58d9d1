"""Keeping a mount served: the keeper and its workers, what they hand on, and what is known of them."""
