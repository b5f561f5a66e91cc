"""Start an experiment: ``python -m experiments NAME``."""

import sys
import threading

from experiments import interrupt
from experiments.cli import in_thread, main

if __name__ == "__main__":
    threading.excepthook = in_thread
    code = main()
    interrupt.ignore()
    sys.exit(code)
