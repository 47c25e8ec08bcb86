"""Reports: results as pages of HTML that need nothing else; nothing is recomputed."""

from __future__ import annotations

from sage.report.write import Report, write_report

__all__ = ["Report", "write_report"]
