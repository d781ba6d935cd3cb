"""Redaction of secrets in texts."""

from __future__ import annotations

import pytest

from producer.observability.redaction import Redactor, secrets_of


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        (f"blip_0123456789ab_{'f' * 48}", "blip_0123456789ab_***"),
        (f"/x?token=blipt_WyI_-x.{'0' * 64}", "/x?…"),
        (f"token blipt_WyI_-x.{'0' * 64}", "token blipt_WyI_-x.***"),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw==", "whsec_***"),
        ("redis://:p@ss:w@host/0", "redis://:***@host/0"),
        ("https://user:p/w@host/x", "https://user:***@host/x"),
        ("redis://password@host", "redis://***@host"),
        ('redis://u:p"w@host/0', "redis://u:***@host/0"),
        ("sentinel://a,b/0?sentinel_password=pw", "sentinel://a,b/0?…"),
        ("GET http://host/a.png?X-Amz-Signature=5&x=1 failed", "GET http://host/a.png?… failed"),
        ("hf_abcdefghijklmnopqrst of the hub", "hf_*** of the hub"),
        ("Incorrect API key: sk-proj-0123456789abcdef", "Incorrect API key: sk-***"),
        ("{'Authorization': 'Bearer abc.def'}", "{'Authorization': 'Bearer ***'}"),
        ("authorization: basic YW5uOnB3, x", "authorization: basic ***, x"),
        ("api_key=abc, password=x", "api_key=***, password=***"),
        ("no secret: https://host/x", "no secret: https://host/x"),
        ("is it red? yes; tokens=5", "is it red? yes; tokens=5"),
    ],
)
def test_secrets_are_redacted(text: str, redacted: str) -> None:
    assert Redactor()(f"it is {text}") == f"it is {redacted}"


def test_known_secrets_are_redacted_wherever_they_are() -> None:
    redact = Redactor(["abcdefgh", "abcdefgh.more(", "short", ""])
    assert redact("x abcdefgh.more( abcdefgh short") == "x *** *** short"


def test_variables_of_the_environment_that_are_secrets_are_known_by_name() -> None:
    names = ["HF_TOKEN", "BLIPLINE_POLISH_KEY", "AWS_SECRET_ACCESS_KEY", "REDISCLI_AUTH"]
    names += ["MODELSCOPE_API_TOKEN", "BLIPLINE_FLOWER_AUTH", "REDIS_PASSWORD"]
    environment = {name: f"value of {name}" for name in names}
    others = {"PATH": "/bin", "BLIPLINE_KEY_PREFIX": "acme:", "AWS_ACCESS_KEY_ID": "id"}
    assert secrets_of({**environment, **others}) == list(environment.values())
