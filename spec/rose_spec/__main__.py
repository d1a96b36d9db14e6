"""Run the conformance kit: `python -m rose_spec`."""

import sys

from rose_spec.supervision import run

if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
