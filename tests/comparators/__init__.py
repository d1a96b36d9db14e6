"""The rules against implementations that others wrote. Tests of a package that is missing are skipped."""
