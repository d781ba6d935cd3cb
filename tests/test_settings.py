"""Settings: an argument overrides the environment, which overrides the default."""

from __future__ import annotations

import pytest

from config.settings import WorkerSettings
from producer import InvalidInput


def test_an_argument_overrides_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLIPLINE_MAX_ROWS", "8")
    assert WorkerSettings.load().max_rows == 8
    assert WorkerSettings.load(max_rows="16").max_rows == 16
    assert WorkerSettings.load(max_rows=None).max_rows == 8


def test_children_get_an_argument_that_equals_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLIPLINE_MAX_ROWS", "8")
    settings = WorkerSettings.load(max_rows="64")
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert WorkerSettings.load() == settings


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("max_rows", "many", "BLIPLINE_MAX_ROWS='many'"),
        ("max_rows", "0", "greater than or equal to 1"),
        ("device", "tpu", "choose auto, cpu, cuda"),
        ("image_root", "/no/such/place", "must be an existing directory"),
        ("vqa_template", "What?", "must contain {question}"),
        ("precision", "fp8", "BLIPLINE_PRECISION='fp8'"),
        ("redis_url", "http://x", "redis://"),
        ("visibility_timeout_s", "0", "greater than or equal to 1"),
        ("submitter", "team a", "at most 64 characters"),
        ("fetch_allow", "10.0.0.0/8,https://x", "'https://x' is not a host name"),
        ("fetch_deny", "*.example.com", "'*.example.com' is not a host name"),
        ("fetch_only", "10.0.0.1/8", "'10.0.0.1/8' is not a host name"),
        ("fetch_stores", "s3://a/,bucket", "'bucket' is not a store prefix"),
        ("fetch_per_host", "0", "greater than or equal to 1"),
    ],
)
def test_the_error_of_an_invalid_setting_names_it_and_its_value(
    name: str, value: str, message: str
) -> None:
    with pytest.raises(InvalidInput) as raised:
        WorkerSettings.load(**{name: value})
    assert message in str(raised.value)
