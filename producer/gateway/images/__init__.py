"""Routes of images: uploads and references."""
