"""Settings of the gateway and their errors."""

from __future__ import annotations

import pytest

from producer.errors import InvalidInput
from producer.gateway.settings import GatewaySettings


def test_the_defaults_allow_no_access_from_outside() -> None:
    settings = GatewaySettings.load()
    assert settings.gateway_host == "127.0.0.1"
    assert settings.cors_origins == ()
    assert settings.page_open_as == ""
    assert settings.gateway_rate > 0


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("gateway_port", 65536, "65535"),
        ("gateway_rate", -1, "0"),
        ("gateway_max_image_mb", 65, "64"),
        ("gateway_cors_origins", "https://a.example, https://b.example/", "b.example/"),
        ("gateway_cors_origins", "null", "null"),
        ("gateway_cors_origins", "javascript:alert", "javascript"),
        ("webhook_allow", "10.0.0.0/33", "10.0.0.0/33"),
        ("webhook_deny", "not a host", "not a host"),
        ("webhook_tries", 0, "1"),
        ("page_open_as", "Acme", "Acme"),
        ("redis_url", "http://x", "redis://"),
    ],
)
def test_an_invalid_setting_is_named(name: str, value: object, expected: str) -> None:
    with pytest.raises(InvalidInput, match=f"BLIPLINE_{name.upper()}=") as error:
        GatewaySettings.load(**{name: value})
    assert expected in str(error.value)


def test_origins_are_separated_by_commas() -> None:
    origins = "https://a.example, http://[::1]:3000,"
    settings = GatewaySettings.load(gateway_cors_origins=origins)
    assert settings.cors_origins == ("https://a.example", "http://[::1]:3000")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.0.1"])
def test_a_page_without_a_key_is_allowed_on_loopback(host: str) -> None:
    assert GatewaySettings.load(gateway_host=host, page_open_as="demo").page_open_as == "demo"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "gateway"])
def test_a_page_without_a_key_is_rejected_elsewhere(host: str) -> None:
    with pytest.raises(InvalidInput, match="BLIPLINE_PAGE_OPEN_AS"):
        GatewaySettings.load(gateway_host=host, page_open_as="demo")


def test_an_error_of_several_settings_contains_no_password() -> None:
    with pytest.raises(InvalidInput, match="BLIPLINE_PAGE_OPEN_AS") as error:
        GatewaySettings.load(
            redis_url="redis://user:hunter2@10.0.0.5", gateway_host="0.0.0.0", page_open_as="demo"
        )
    assert "hunter2" not in str(error.value)
