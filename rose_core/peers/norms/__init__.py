"""Rules that need a norm, a mean or a range of the whole tensor."""
