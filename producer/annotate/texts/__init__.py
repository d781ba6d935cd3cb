"""Texts of images: the requests that produce them, and the rules that change them."""
