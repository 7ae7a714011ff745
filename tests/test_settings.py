"""The operator's settings: what is read, and what is refused."""

import re
from pathlib import Path

import pytest

from outpaint_mcp.domain.errors import ConfigurationError
from outpaint_mcp.settings import Settings, VendorSettings, read_settings, read_vendor_settings

from .serving import settings_for


@pytest.mark.parametrize("value", [" ", ",", " , ,", ()])
def test_an_empty_list_of_providers_is_none_and_so_no_leave_to_hand_pictures_out(tmp_path: Path, value: object) -> None:
    assert settings_for(tmp_path, providers=value).providers is None


def test_a_list_of_providers_is_read_without_its_spaces_and_capitals(tmp_path: Path) -> None:
    assert settings_for(tmp_path, providers=" Local, vtrix ,").providers == ("local", "vtrix")


@pytest.mark.parametrize("value", ["nan,nan", "nan,1", "1,nan", "inf,1", "1,inf", "-1,1", "1,0"])
def test_times_to_ask_at_that_would_never_come_or_be_a_storm_are_refused(tmp_path: Path, value: str) -> None:
    with pytest.raises(ConfigurationError, match="OUTPAINT_POLL_SECONDS"):
        read_settings(data_dir=tmp_path, poll_seconds=value)


def test_times_to_ask_at_are_the_first_and_the_interval(tmp_path: Path) -> None:
    assert read_settings(data_dir=tmp_path, poll_seconds="0, 0.05").poll_seconds == (0, 0.05)


@pytest.mark.parametrize("name", ["keep_images_gb", "keep_images_days", "max_request_mb"])
@pytest.mark.parametrize("value", ["inf", "1e300", "nan", "0"])
def test_a_size_that_no_machine_has_is_refused(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"OUTPAINT_{name.upper()}"):
        read_settings(data_dir=tmp_path, **{name: value})


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:99999", "http://127.0.0.1:0", "http://[::1", "http://:80", "ftp://x"]
)
def test_a_base_url_that_leads_nowhere_is_refused_by_its_variable(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("LEGNEXT_BASE_URL", url)
    with pytest.raises(ConfigurationError, match="LEGNEXT_BASE_URL"):
        read_vendor_settings("legnext")


@pytest.mark.parametrize("url", ["http://127.0.0.1:8765/legnext", "https://[::1]:8", "https://example.com"])
def test_a_base_url_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("LEGNEXT_BASE_URL", url)
    assert read_vendor_settings("legnext").base_url == url


@pytest.mark.parametrize("value", ["?", "-1", "nan", "\udcff"])
def test_every_refused_setting_gets_a_sentence_of_our_own_with_a_value_that_is_taken(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    names = [f"OUTPAINT_{name.upper()}" for name in Settings.model_fields]
    names += [f"VENDOR_{name.upper()}" for name in VendorSettings.model_fields]

    def refusal(name: str, text: str) -> str | None:
        monkeypatch.setenv(name, text)
        try:
            read_settings()
            read_vendor_settings("vendor")
        except ConfigurationError as error:
            return error.message
        finally:
            monkeypatch.delenv(name)
        return None

    refused = {name: message for name in names if (message := refusal(name, value)) is not None}
    assert len(refused) > 10
    for name, message in refused.items():
        says = re.fullmatch(rf"{name} must be ([^.]*?)(, such as (\S+)( or \S+)?)?\.", message)
        assert says is not None, message
        if says[1] != "text":
            assert refusal(name, says[3] or re.split(", | or ", says[1])[0]) is None
