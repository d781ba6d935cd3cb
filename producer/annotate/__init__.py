"""Annotation of whole collections: sources, journal, run, outputs (`blipline annotate`)."""
