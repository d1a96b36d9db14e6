"""Rules whose result at an element depends on this element only."""
