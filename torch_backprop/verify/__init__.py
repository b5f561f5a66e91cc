"""The verifier: holds a backward pass against autograd, and names every fault."""

from .check import assert_correct, check
from .report import Finding, Report

__all__ = ["Finding", "Report", "assert_correct", "check"]
