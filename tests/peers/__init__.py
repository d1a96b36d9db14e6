"""Tests of `rose_core.peers`."""
