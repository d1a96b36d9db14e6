"""Tests of Rose: they compare bits, not closeness."""
