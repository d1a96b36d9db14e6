"""Tests of `rose_core`."""
