"""``python -m torch_backprop.verify``: every layer of this package, or one function of yours."""

from __future__ import annotations

import sys

from .cli import main

sys.exit(main())
