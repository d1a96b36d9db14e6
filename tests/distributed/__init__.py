"""Tests of what runs on several processes."""
