"""Files to text, in a limited process. Knows no Django."""
