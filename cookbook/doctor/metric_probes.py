"""Placeholder until its checks are written."""

CHECKS = ()
