"""Redaction of image references."""

from __future__ import annotations

import pytest

from producer.net.redact import MAX_REDACTED_CHARS, redact_text, redact_url


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("https://host/a/b%20c.png", "https://host/a/b%20c.png"),
        ("https://host:8443/x?sig=secret&a=b", "https://host:8443/x?…"),
        ("https://host/x#secret", "https://host/x?…"),
        ("https://user:secret@host/x", "https://host/x"),
        ("https://secret@host/x", "https://host/x"),
        ("https://user:sec/ret@host/x", "https://host/x"),
        ("https://user:sec?secret@host/x", "https://…?…"),
        ("https://user:secret", "https://…"),
        ("https:user:secret@host/x", "host/x"),
        ("https:user:secret?", "https:…?…"),
        ("https:\\\\user:secret@host\\x", "https:\\\\host\\x"),
        ("ht\ntps://user:secret@host/x", "https://host/x"),
        (" HTTPS://user:secret@host/x", "https://host/x"),
        ("user:secret@host", "host"),
        ("https://[::1]:80/x", "https://[::1]:80/x"),
        ("data:image/png;base64,secret", "data:…"),
        ("DATA:,secret", "data:…"),
        ("blob:0123", "blob:0123"),
        ("s3://bucket/key?versionId=secret", "s3://bucket/key?…"),
        ("file:a@b.png", "file:a@b.png"),
        ("file:///images/a.png?secret", "file:///images/a.png?…"),
        ("/etc/passwd", "/etc/passwd"),
        ("https://host/\x1b[31m\x00", "https://host/\ufffd[31m\ufffd"),
        ("\ud800", "\ufffd"),
        ("", ""),
    ],
)
def test_a_reference_is_redacted(reference: str, expected: str) -> None:
    assert redact_url(reference) == expected
    assert "secret" not in redact_url(reference)


@pytest.mark.parametrize("reference", ["https://host/" + "x" * 8000, "x" * 100_000])
def test_a_long_reference_is_shortened(reference: str) -> None:
    assert len(redact_url(reference)) == MAX_REDACTED_CHARS
    assert redact_url(reference).endswith("…")
    # Other programs read it as well.
    redact_url(reference).encode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("what is on https://u:secret@h/x?sig=secret now?", "what is on https://h/x?… now?"),
        ("is DATA:image/png;base64,secret a cat?", "is data:… a cat?"),
        ("redis://:secret@h:6379/0", "redis://h:6379/0"),
        ("the data: a cat, at 3:4 // 5", "the data: a cat, at 3:4 // 5"),
        ("", ""),
    ],
)
def test_the_urls_of_a_text_are_redacted(text: str, expected: str) -> None:
    assert redact_text(text) == expected
