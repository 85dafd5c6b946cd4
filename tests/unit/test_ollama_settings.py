# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _ollama_settings as settings
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize("text, bound, url, loopback", [
    ("127.0.0.1:11434", "127.0.0.1:11434", "http://127.0.0.1:11434", True),
    ("127.0.0.1", "127.0.0.1:11434", "http://127.0.0.1:11434", True),
    ("localhost:80", "127.0.0.1:80", "http://127.0.0.1:80", True),
    ("0.0.0.0:11434", "0.0.0.0:11434", "http://127.0.0.1:11434", False),
    (":11434", "0.0.0.0:11434", "http://127.0.0.1:11434", False),
    ("[::]:11434", "[::]:11434", "http://127.0.0.1:11434", False),
    ("[::1]:11434", "[::1]:11434", "http://[::1]:11434", True),
    ("192.0.2.7:8080", "192.0.2.7:8080", "http://192.0.2.7:8080", False),
    ("http://192.0.2.7:8080/", "192.0.2.7:8080", "http://192.0.2.7:8080", False),
    ("gpu1.lan:11434", "gpu1.lan:11434", "http://gpu1.lan:11434", False),
])
def test_listen_address(text, bound, url, loopback):
    listen = settings.parse_listen(text)
    assert (listen.text, listen.url, listen.loopback_only) == (bound, url, loopback)


@pytest.mark.parametrize("text, says", [
    ("http://127.0.0.1", "port 80"),
    ("https://127.0.0.1:11434", "plain http"),
    ("127.0.0.1:99999", "no valid port"),
    ("127.0.0.1:0", "no valid port"),
    ("127.0.0.1:", "no valid port"),
    ("127.0.0.1:port", "no valid port"),
    ("::1", "no ADDRESS:PORT"),
    ("[zz]:1", "no ADDRESS:PORT"),
    ("[1234]:1", "no IPv6"),
    ("user@host:1", "no ADDRESS:PORT"),
    ("", "no ADDRESS:PORT"),
    ("a b:1", "no ADDRESS:PORT"),
])
def test_bad_listen_address(text, says):
    with pytest.raises(LocalModelsError, match=says):
        settings.parse_listen(text)


@given(st.text(max_size=30))
def test_any_text_is_an_address_or_refused(text):
    try:
        listen = settings.parse_listen(text)
    except LocalModelsError:
        return
    assert settings.parse_listen(listen.text).text == listen.text


@pytest.mark.parametrize("text", ["0.32.15", "0.13.5", "0.33.0-rc2"])
def test_version(text):
    assert settings.parse_version(text) == text


@pytest.mark.parametrize("text", ["latest", "v0.32.15", "0.32", "0.32.15; rm -rf /", "../0.32.15", ""])
def test_no_version(text):
    with pytest.raises(LocalModelsError, match="no version"):
        settings.parse_version(text)


def test_environment_is_text():
    given_ = {"OLLAMA_FLASH_ATTENTION": True, "OLLAMA_NOPRUNE": False, "OLLAMA_NUM_PARALLEL": 4, "OLLAMA_KEEP_ALIVE": "10m",
              "OLLAMA_ORIGINS": ["http://a", "app://*"], "HTTPS_PROXY": "http://p:1"}
    assert settings.read_environment(given_, {}) == {
        "OLLAMA_FLASH_ATTENTION": "1", "OLLAMA_NOPRUNE": "0", "OLLAMA_NUM_PARALLEL": "4", "OLLAMA_KEEP_ALIVE": "10m",
        "OLLAMA_ORIGINS": "http://a,app://*", "HTTPS_PROXY": "http://p:1"}


@pytest.mark.parametrize("name, value, says", [
    ("OLLAMA_NOPRUNE", "no", "take for true"),
    ("OLLAMA_FLASH_ATTENTION", "off", "take for true"),
    ("OLLAMA_FLASH_ATTENTION", "", "take for true"),
    ("OLLAMA_NUM_PARALLEL", "-1", "no count"),
    ("OLLAMA_CONTEXT_LENGTH", "8k", "no count"),
    ("OLLAMA_KEEP_ALIVE", "forever", "no duration"),
    ("OLLAMA_KV_CACHE_TYPE", "q5", "no model can be loaded"),
    ("OLLAMA_ORIGINS", "http://a,example.org", "example.org.*no scheme"),
    ("OLLAMA_HOST", "0.0.0.0", "ollama_listen"),
    ("A B", "x", "name of an environment variable"),
    ("A\n", "x", "name of an environment variable"),
    ("A", "x\ny", "more than one line"),
    ("A", None, "no value"),
    ("A", {"b": 1}, "no value"),
])
def test_environment_that_would_be_misread_is_refused(name, value, says):
    with pytest.raises(LocalModelsError, match=says):
        settings.read_environment({name: value}, {"OLLAMA_HOST": "Set ollama_listen instead"})


@pytest.mark.parametrize("value", ["10m", "1h30m", "-1", "0", "300", "1.5h", "-1m", "500ms"])
def test_durations(value):
    assert settings.read_environment({"OLLAMA_KEEP_ALIVE": value}, {}) == {"OLLAMA_KEEP_ALIVE": value}


def test_imagined_names_are_told():
    assert settings.imagined({"OLLAMA_REGISTRY": "x", "OLLAMA_KEEP_ALIVE": "1h"}) == ["OLLAMA_REGISTRY"]


def test_fingerprint_does_not_depend_on_order():
    assert settings.fingerprint({"a": "1", "b": "2"}) == settings.fingerprint({"b": "2", "a": "1"})
    assert settings.fingerprint({"a": "1"}) != settings.fingerprint({"a": "2"})


@pytest.mark.parametrize("text", [
    'Environment="OLLAMA_API_KEY=s3cret"', '      OLLAMA_API_KEY: "s3cret"', "      OLLAMA_API_KEY: s3cret",
    'Environment="HTTPS_PROXY=http://me:s3cret@proxy:3128"', 'Environment="DB_PASSWORD=s3cret with blanks"',
    '      SQL_DSN: "root:s3cret@tcp(mysql:3306)/oneapi"',
])
def test_secrets_are_masked(text):
    shown = settings.masked("first\n%s\nlast\n" % text)
    assert "s3cret" not in shown and "***" in shown
    assert shown.startswith("first\n") and shown.endswith("\nlast\n")


def test_what_is_no_secret_is_shown():
    text = 'Environment="OLLAMA_KEEP_ALIVE=1h"\nnetworks:\n  - ollama\n'
    assert settings.masked(text) == text
