# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules for one-api against a whole server: the stand-in, or a real one by LAB_ONE_API=/path/to/one-api.

Each step is run as check, for real, as check again and for real again.
"""

from __future__ import annotations

import json

import pytest

from ansible_collections.localmodels.fastgpt.plugins.module_utils import _aiproxy_plan, _one_api, _one_api_container_apply
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _one_api_place as place
from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.modules import one_api_channel, one_api_token
from ansible_collections.localmodels.fastgpt.tests.contract import wire
from ansible_collections.localmodels.fastgpt.tests.contract.test_one_api import REAL, server
from ansible_collections.localmodels.fastgpt.tests.contract.upstream import Upstream
from ansible_collections.localmodels.fastgpt.tests.unit.run_module import printed

ACCESS_TOKEN = "accessTokenOfTheModules000000001"
CLIENT_KEY = "clientKeyOfTheModules000000000000000000000000001"
ROOT_PASSWORD = "rootPasswordOfTheOne"
CHANNEL_KEY = "contract-channel-key"
SECRETS = {place.ACCESS_TOKEN: ACCESS_TOKEN, place.CLIENT_KEY: CLIENT_KEY, place.ROOT_PASSWORD: ROOT_PASSWORD}
FIRST_START = {"INITIAL_ROOT_ACCESS_TOKEN": ACCESS_TOKEN, "INITIAL_ROOT_TOKEN": CLIENT_KEY}


@pytest.fixture(scope="module")
def upstream():
    running = Upstream().start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    running = server(tmp_path_factory.mktemp("one-api"), **FIRST_START).start()
    yield running.url
    running.stop()


@pytest.fixture
def fresh(tmp_path):
    """A server in its first minute, not yet started: started with first(...)."""
    running = server(tmp_path)
    yield running
    running.stop()


def call(capsys, module, url, check, **options):
    out = printed(module, capsys, check, **dict({"url": url, "access_token": ACCESS_TOKEN}, **options))
    assert ACCESS_TOKEN not in out and CHANNEL_KEY not in out and CLIENT_KEY not in out
    return json.loads(out)


def stored(url):
    """Everything that check mode must leave alone."""
    one_api = _one_api.direct(url, ACCESS_TOKEN)
    channels = [dict(row, used_quota=None) for row in one_api.channels()]  # counted some time after a call
    return channels, one_api.tokens(), one_api.ask("GET", "/api/user/available_models")


def four_times(capsys, module, url, **options):
    """check, real, check, real; the result of the first real run."""
    before = stored(url)
    expected = call(capsys, module, url, True, **options)
    assert not expected.get("failed"), expected["msg"]
    assert stored(url) == before
    done = call(capsys, module, url, False, **options)
    assert expected["changed"] and done["changed"] and expected["actions"] == done["actions"] and expected["diff"] == done["diff"]
    for check in (True, False):
        again = call(capsys, module, url, check, **options)
        assert not again["changed"] and again["actions"] == [] and again["diff"]["before"] == again["diff"]["after"]
    return done


def asked(url, path, key, **body):
    return wire.send(url, "POST" if body else "GET", path, {"Authorization": "Bearer " + key}, body or None)


def chat(url, model, key):
    return asked(url, "/v1/chat/completions", key, model=model, messages=[{"role": "user", "content": "hi"}])


def test_a_channel_from_its_making_to_its_end(capsys, monkeypatch, url, upstream):
    # Here everything is on loopback; that the module refuses such an address is another test's business.
    monkeypatch.setattr(_aiproxy_plan, "is_loopback", lambda host: False)
    one_api = _one_api.direct(url, ACCESS_TOKEN)
    here = {"name": "ollama", "base_url": "http://%s/" % upstream.address}

    def channel(**more):
        return four_times(capsys, one_api_channel, url, channels=[dict(here, **more)])

    made = channel(models=["tiny:latest", {"name": "house", "type": "chat"}, "tiny-embed:latest"], model_mapping={"house": "tiny:latest"},
                   key=CHANNEL_KEY)
    assert made["actions"] == ["Create channel ollama to http://%s with house, tiny-embed:latest, tiny:latest" % upstream.address]
    id = made["channels"][0]["id"]
    assert one_api.channel("ollama")["id"] == id
    assert chat(url, "house", "%s-%d" % (CLIENT_KEY, id))["body"]["choices"][0]["message"]["content"]
    assert asked(url, "/v1/embeddings", CLIENT_KEY, model="tiny-embed:latest", input="hi")["body"]["data"][0]["embedding"]

    changed = channel(models=["tiny:latest"], priority=7, groups=["vip", "default"])
    assert changed["channels"][0]["id"] == id
    row = one_api.channel("ollama")
    assert (json.loads(row["model_mapping"]), row["priority"], row["group"]) == ({"house": "tiny:latest"}, 7, "default,vip")
    assert chat(url, "house", CLIENT_KEY)["status"] == 503 and chat(url, "tiny:latest", CLIENT_KEY)["status"] == 200
    channel(models=["tiny:latest"], model_mapping={}, priority=0, groups=[])
    assert one_api.channel("ollama")["model_mapping"] == ""

    channel(models=["tiny:latest"], enabled=False)
    assert asked(url, "/v1/models", CLIENT_KEY)["body"]["data"] == []
    one_api.update_channel(id, {"status": _one_api.AUTO_DISABLED})
    channel(models=["tiny:latest"])  # what one-api disabled by itself is no state to stay in
    assert chat(url, "tiny:latest", CLIENT_KEY)["status"] == 200

    channel(state="absent")
    assert one_api.channels() == []


def test_a_key_is_written_on_demand_and_then_each_time(capsys, monkeypatch, url, upstream):
    monkeypatch.setattr(_aiproxy_plan, "is_loopback", lambda host: False)
    one_api = _one_api.direct(url, ACCESS_TOKEN)
    channel = {"name": "keyed", "base_url": "http://" + upstream.address, "models": ["tiny:latest"], "key": CHANNEL_KEY}
    assert call(capsys, one_api_channel, url, False, channels=[channel])["changed"]
    assert not call(capsys, one_api_channel, url, False, channels=[dict(channel, key="another-one")])["changed"]
    for _time in range(2):
        result = call(capsys, one_api_channel, url, False, channels=[dict(channel, update_key="always")])
        assert result["actions"] == ["Change channel keyed: key"]
    row = one_api.channel("keyed")
    assert one_api.ask("PUT", "/api/channel/", {"id": row["id"]}, writes=True)["key"] == CHANNEL_KEY
    one_api.delete_channel(row["id"])


def test_a_restart_forgets_nothing(capsys, tmp_path):
    running = server(tmp_path, **FIRST_START).start()
    try:
        channels = [{"name": "ollama", "base_url": "http://ollama:11434", "models": ["tiny:latest"], "key": CHANNEL_KEY}]
        assert call(capsys, one_api_channel, running.url, False, channels=channels)["changed"]
        before = stored(running.url)
        running.restart()
        assert len(before[0]) == len(before[1]) == 1 and stored(running.url) == before
        assert not call(capsys, one_api_channel, running.url, False, channels=channels)["changed"]
    finally:
        running.stop()


def test_two_channels_of_one_name_are_left_alone(capsys, url):
    one_api = _one_api.direct(url, ACCESS_TOKEN)
    for _time in range(2):
        one_api.ask("POST", "/api/channel/", {"type": 30, "name": "twice", "key": "x", "base_url": "http://ollama:11434", "models": "a"})
    before = stored(url)
    result = call(capsys, one_api_channel, url, False, channels=[{"name": "twice", "state": "absent"}])
    assert result["failed"] and "2 channels with the name twice" in result["msg"]
    assert stored(url) == before


def test_a_token_from_its_making_to_its_end(capsys, url, tmp_path):
    one_api, path = _one_api.direct(url, ACCESS_TOKEN), tmp_path / "key"

    def token(**more):
        return four_times(capsys, one_api_token, url, tokens=[dict({"name": "notebook", "key_file": str(path)}, **more)])

    assert token()["actions"] == ["Create token notebook", "Write the key of token notebook into %s" % path]
    key = path.read_text().strip()
    assert path.stat().st_mode & 0o777 == 0o600 and key.startswith("sk-") and len(key) == 51
    assert asked(url, "/v1/models", key)["status"] == 200
    token(models=["tiny:latest"])
    assert chat(url, "other:1b", key)["status"] == 403
    token(enabled=False)
    assert asked(url, "/v1/models", key)["status"] == 401

    row = next(row for row in one_api.tokens() if row["name"] == "notebook")
    one_api.update_token(row, {"expired_time": 1700000000, "unlimited_quota": False})
    one_api.set_token_status(row["id"], _one_api.ENABLED)
    assert asked(url, "/v1/models", key)["status"] == 401  # and so it is expired for good
    token(models=[])
    assert asked(url, "/v1/models", key)["status"] == 200
    path.write_text("something else\n")
    assert token()["actions"] == ["Write the key of token notebook into %s" % path] and path.read_text().strip() == key
    four_times(capsys, one_api_token, url, tokens=[{"name": "notebook", "state": "absent"}])
    assert asked(url, "/v1/models", key)["status"] == 401


def test_a_wrong_access_token_is_named(capsys, url):
    result = call(capsys, one_api_token, url, False, access_token="wrong-access-token", tokens=[{"name": "x"}])
    assert result["failed"] and "The access token is wrong" in result["msg"] and "wrong-access-token" not in json.dumps(result["msg"])


def settled(one_api, secrets):
    """Let the role's own steps run; what it wrote down."""
    kept = {}
    _one_api_container_apply.settle(one_api, _one_api_container_apply.look(one_api, secrets), secrets, kept.__setitem__, "/x/.env")
    return kept


def shut(one_api, secrets):
    """Whether all well-known doors are shut and FastGPT's is open."""
    api = _one_api_container_apply.look(one_api, secrets)
    token = api.token and (api.token["name"], api.token["status"], api.token["unlimited_quota"], api.token["expired_time"])
    return api.access and not api.default_password and not api.registration and token == ("fastgpt", 1, True, -1)


def test_after_the_first_start_nobody_comes_in_by_a_well_known_way(fresh):
    url = fresh.start(**FIRST_START).url
    one_api = _one_api.direct(url, ACCESS_TOKEN)
    found = _one_api_container_apply.look(one_api, SECRETS)
    assert found.answers and found.access and found.default_password and found.registration and found.token["name"] == "Initial Root Token"
    assert settled(one_api, SECRETS) == {} and shut(one_api, SECRETS)
    assert wire.send(url, "POST", "/api/user/register", {}, {"username": "anybody", "password": "12345678"})["body"]["success"] is False
    assert wire.send(url, "POST", "/api/user/login", {}, {"username": "root", "password": ROOT_PASSWORD})["body"]["success"] is True
    assert asked(url, "/v1/models", "sk-" + CLIENT_KEY)["status"] == 200
    again = _one_api.direct(url, ACCESS_TOKEN)
    assert settled(again, SECRETS) == {} and {request.split(" ")[0] for request in again.requests} == {"GET", "POST"}
    assert [request for request in again.requests if not request.startswith("GET")] == ["POST /api/user/login"]


def test_a_release_that_knows_no_initial_tokens_is_entered_by_a_login(fresh):
    url = fresh.start().url
    one_api = _one_api.direct(url, ACCESS_TOKEN)
    kept = settled(one_api, SECRETS)
    assert set(kept) == {place.ACCESS_TOKEN, place.CLIENT_KEY} and len(kept[place.CLIENT_KEY]) == 48
    assert shut(_one_api.direct(url, kept[place.ACCESS_TOKEN]), dict(SECRETS, **kept))


def test_an_access_token_that_somebody_made_anew_is_won_back_by_roots_password(fresh):
    url = fresh.start(**FIRST_START).url
    settled(_one_api.direct(url, ACCESS_TOKEN), SECRETS)
    person = _one_api.direct(url, "none")
    person.new_access_token(person.login(ROOT_PASSWORD))
    kept = settled(_one_api.direct(url, ACCESS_TOKEN), SECRETS)
    assert list(kept) == [place.ACCESS_TOKEN] and shut(_one_api.direct(url, kept[place.ACCESS_TOKEN]), dict(SECRETS, **kept))


def test_a_database_of_other_secrets_is_left_alone_with_the_reason(fresh):
    url = fresh.start(**FIRST_START).url
    settled(_one_api.direct(url, ACCESS_TOKEN), SECRETS)
    others = dict(SECRETS, **{place.ACCESS_TOKEN: "another", place.ROOT_PASSWORD: "another-password"})
    with pytest.raises(LocalModelsError, match="its database was made with others.*ONE_API_ROOT_PASSWORD"):
        settled(_one_api.direct(url, "another"), others)
    assert shut(_one_api.direct(url, ACCESS_TOKEN), SECRETS)


@pytest.mark.parametrize("harm", ["deleted", "disabled", "limited", "signed up"])
def test_what_somebody_did_to_the_doors_is_made_good(fresh, harm):
    url = fresh.start(**FIRST_START).url
    one_api = _one_api.direct(url, ACCESS_TOKEN)
    settled(one_api, SECRETS)
    (row,) = one_api.tokens()
    {"deleted": lambda: one_api.delete_token(row["id"]), "disabled": lambda: one_api.set_token_status(row["id"], 2),
     "limited": lambda: one_api.update_token(row, {"unlimited_quota": False, "expired_time": 0}),
     "signed up": lambda: one_api.set_option("RegisterEnabled", "true")}[harm]()
    kept = settled(one_api, SECRETS)
    assert shut(one_api, dict(SECRETS, **kept)) and set(kept) == ({place.CLIENT_KEY} if harm == "deleted" else set())


@pytest.mark.skipif(bool(REAL), reason="needs a PostgreSQL")
def test_on_postgresql_the_first_token_is_made_at_the_second_try(fresh):
    url = fresh.start(SQL_DSN="postgres://nobody@127.0.0.1:9/none", **FIRST_START).url
    one_api = _one_api.direct(url, ACCESS_TOKEN)
    assert one_api.create_token({"name": "x", "unlimited_quota": True, "expired_time": -1})["key"]
    assert one_api.requests == ["POST /api/token/"] * 2
