"""What a person looks at after a run: pictures, a page, a table."""

from ocssl_jax.report.sheet import Group, Sheet, flat_sheet, grouped_sheet
from ocssl_jax.report.table import table
from ocssl_jax.report.write import write_report

__all__ = ["Group", "Sheet", "flat_sheet", "grouped_sheet", "table", "write_report"]
