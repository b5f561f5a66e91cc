"""The verifier: holds a backward pass against autograd, and names every fault."""

from .check import assert_correct, check
from .finding import Finding
from .report import Report

__all__ = ["Finding", "Report", "assert_correct", "check"]
