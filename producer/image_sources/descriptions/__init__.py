"""Descriptions within image files: EXIF and XMP in JPEG, PNG and WebP, pixels unchanged."""
