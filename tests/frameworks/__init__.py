"""Tests of rose_torch in training frameworks."""
