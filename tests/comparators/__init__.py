"""Comparisons with implementations by others, which are skipped if they are not installed."""
