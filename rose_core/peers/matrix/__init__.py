"""Rules for matrices: their sums and products have the same bits on every array library."""
