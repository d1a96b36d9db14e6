"""Run the conformance kit: `python -m rose_spec`."""

import sys

from rose_spec.cli import main

if __name__ == "__main__":
    sys.exit(main())
