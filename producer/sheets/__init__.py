"""Outputs as pages to look through: contact sheets, and two outputs side by side."""
