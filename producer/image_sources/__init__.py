"""Sources of images: folders, patterns, lists, tables, archives, object stores."""
