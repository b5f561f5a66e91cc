"""C compiled into a library, once for each text: kept in memory, and in a folder of the user's."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

FLAGS = (
    "-O3",
    "-march=native",
    "-std=gnu11",
    "-shared",
    "-fPIC",
    # Sums may be taken in the order that vectors take them; what is not finite stays so.
    "-fassociative-math",
    "-fno-signed-zeros",
    "-fno-trapping-math",
    "-fno-math-errno",
    # gcc 12 loads from wrong places where it makes one masked load out of many conditional ones.
    "-fno-tree-loop-if-convert",
)


@functools.cache
def compiler() -> str | None:
    """Return the path of the C compiler: that of the variable CC, or what is found; None if there is none."""
    for name in (os.environ.get("CC", ""), "cc", "gcc", "clang"):
        if name and (path := shutil.which(name)):
            return path
    return None


def folder() -> Path:
    """Return where libraries are kept: what TORCH_BACKPROP_CACHE says, or the cache of this user."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    # Not the folder for temporary files, where others might put a library of theirs.
    return Path(os.environ.get("TORCH_BACKPROP_CACHE") or Path(cache, "torch_backprop"))


@functools.cache
def processor() -> str:
    """Return what tells this kind of processor from others, for whose instructions nothing is compiled."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    flags = [line for line in lines if line.startswith(("flags", "Features"))]
    return flags[0] if flags else f"{platform.machine()} {platform.processor()}"


@functools.cache
def load(text: str) -> Any:
    """Return the function of a text in C, compiled unless it is kept.

    Raises:
        RuntimeError: with the compiler's words, if it fails.
    """
    name = compiler()
    if name is None:
        raise RuntimeError("there is no C compiler")
    key = hashlib.sha256("\0".join((text, name, processor(), *FLAGS)).encode()).hexdigest()[:24]
    path = folder() / f"{key}.so"
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Under another name until it is whole: another process may look for it meanwhile.
        with tempfile.TemporaryDirectory(dir=path.parent) as place:
            source, library = Path(place, "step.c"), Path(place, "step.so")
            source.write_text(text)
            command = [name, *FLAGS, str(source), "-o", str(library), "-lm"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"the C compiler failed: {done.stderr[-2000:]}")
            os.replace(library, path)
    function = ctypes.CDLL(str(path)).descend
    function.restype, function.argtypes = ctypes.c_int64, (ctypes.c_int64, *7 * (ctypes.c_void_p,))
    return function
