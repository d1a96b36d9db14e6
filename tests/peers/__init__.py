"""Tests of the rules that people would take instead of Rose."""
