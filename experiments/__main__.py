"""Start an experiment: ``python -m experiments NAME``."""

import sys
import threading

from experiments import interrupt
from experiments.cli import in_thread, main

if __name__ == "__main__":
    threading.excepthook = in_thread
    code = main()
    # Python still has its own threads and buffers to close.
    interrupt.ignore()
    sys.exit(code)
