"""Outputs of an annotation: caption files, tables, archives, embedded descriptions."""
