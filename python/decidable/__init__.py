"""Automated choices that can be proved afterwards."""

from decidable._native import __version__ as __version__
