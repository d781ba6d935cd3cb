"""Celery consumer: chunks in, item results out."""
