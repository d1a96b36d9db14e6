"""Tests of steps on several processes."""
