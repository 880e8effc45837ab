"""Thousands stand apart, as the browser's own figures on the same pages have them; Django would write 1234567."""

THOUSAND_SEPARATOR = ","
NUMBER_GROUPING = 3
