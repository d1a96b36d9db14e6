"""Wrappers: rules that take a rule."""
