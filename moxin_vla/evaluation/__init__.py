"""Closed-loop evaluation: episodes, honest statistics, reports."""
