"""The checks of a cell: measure, call a judge, keep the record."""
