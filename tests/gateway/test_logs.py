"""Log lines in JSON, and redacted secrets."""

from __future__ import annotations

import json
import logging

import pytest

from producer.gateway.http.logs import JsonFormatter


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        (f"blip_0123456789ab_{'f' * 48}", "blip_0123456789ab_***"),
        (f"?token=blipt_WyI_-x.{'0' * 64}", "?token=blipt_WyI_-x.***"),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw==", "whsec_***"),
        ("redis://:p@ss:w@host/0", "redis://:***@host/0"),
        ("https://user:p/w@host/x", "https://user:***@host/x"),
        ("redis://password@host", "redis://***@host"),
        ('redis://u:p"w@host/0', "redis://u:***@host/0"),
        ("sentinel://a,b/0?sentinel_password=pw", "sentinel://a,b/0?sentinel_password=***"),
        ("no secret: https://host/x", "no secret: https://host/x"),
    ],
)
def test_secrets_in_messages_are_redacted(
    text: str, redacted: str, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("blipline.gateway").warning("it is %s", text)
    assert json.loads(JsonFormatter().format(caplog.records[-1]))["message"] == f"it is {redacted}"
