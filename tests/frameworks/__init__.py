"""Tests of rose_torch inside the frameworks that people train with."""
