"""Reports: result files as self-contained pages of HTML, with figures as SVG and the data behind
each as CSV; nothing is recomputed."""

from __future__ import annotations

from sage.report.write import Report, write_report

__all__ = ["Report", "write_report"]
