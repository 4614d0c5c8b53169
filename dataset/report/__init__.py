"""The report of a data set: one HTML file that loads nothing, for a look before any statistics."""

from dataset.report.build import write_report

__all__ = ["write_report"]
