"""Load on hosts and measurements of them, within bounds, kept as signed records and compared between releases."""
