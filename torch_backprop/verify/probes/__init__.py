"""The probes by topic. To import this package is to fill the table."""

from . import gradients

__all__ = ["gradients"]
