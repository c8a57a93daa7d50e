"""Exporting trained networks to files for other engines, and using those files."""
