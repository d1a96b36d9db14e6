"""Tests of the optimizers of each array library."""
