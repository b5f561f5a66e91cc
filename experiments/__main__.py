"""Start an experiment: ``python -m experiments NAME``."""

import sys

from experiments import interrupt
from experiments.cli import main

if __name__ == "__main__":
    code = main()
    interrupt.ignore()
    sys.exit(code)
