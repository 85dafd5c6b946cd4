# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Login and requests of FastGPT's client: one login a play, one try of a password, no write in check mode."""

from __future__ import annotations

import os
import stat

import pytest

from ansible_collections.localmodels.fastgpt.plugins.module_utils._errors import LocalModelsError
from ansible_collections.localmodels.fastgpt.plugins.module_utils._fastgpt import models_of
from ansible_collections.localmodels.fastgpt.plugins.module_utils._session import Session, runtime_folder
from ansible_collections.localmodels.fastgpt.tests.unit.fastgpt_fake import FakeFastGPT, Memory, said

LOGIN = ["GET /api/support/user/account/preLogin", "POST /api/support/user/account/loginByPassword"]
MODELS = {"m:latest": {"model": "m:latest", "type": "llm", "isActive": True}}


def test_one_login_serves_every_request_and_the_next_task():
    server, memory = FakeFastGPT(MODELS), Memory()
    fastgpt = server.fastgpt(session=memory)
    models_of(fastgpt)
    models_of(fastgpt)
    models_of(server.fastgpt(session=memory))
    assert server.asked == LOGIN + ["GET /api/core/ai/model/getConfigJson"] * 3


def test_a_token_that_fastgpt_forgot_is_replaced():
    server, memory = FakeFastGPT(MODELS), Memory("an-old-one")
    assert models_of(server.fastgpt(session=memory))[1] == MODELS
    assert server.logins == 1 and memory.token == "token-1"


def test_a_wrong_password_is_tried_once_and_not_shown():
    server = FakeFastGPT(MODELS)
    with pytest.raises(LocalModelsError, match="wrong.*tried once") as told:
        models_of(server.fastgpt(password="not-the-password"))
    assert server.logins == 1 and "not-the-password" not in str(told.value)


def test_too_many_logins_are_told_and_not_repeated():
    server = FakeFastGPT(MODELS)
    server.logins = 10
    with pytest.raises(LocalModelsError, match="Wait two minutes"):
        models_of(server.fastgpt())
    assert server.logins == 11


@pytest.mark.parametrize("data", [None, [], "x", {"token": None}, {"token": 5}])
def test_another_server_that_answers_with_the_same_envelope_is_told_from_fastgpt(data):
    server = FakeFastGPT(MODELS)
    server.request = lambda *dummy: said(data)
    with pytest.raises(LocalModelsError, match="answered 200: nothing. .*is this FastGPT's own address?"):
        models_of(server.fastgpt())
    if not isinstance(data, dict):
        with pytest.raises(LocalModelsError, match="There is nothing of FastGPT's in it"):
            server.fastgpt().init_data()


def test_a_record_without_metadata_is_one_that_is_not_as_declared():
    assert models_of(FakeFastGPT({"m": None}).fastgpt())[1] == {"m": {}}


@pytest.mark.parametrize("errors, logins", [(1, 2), (9, 2)])
def test_a_code_that_somebody_overwrote_is_asked_for_once_more(errors, logins):
    server = FakeFastGPT(MODELS)
    server.code_errors = errors
    if errors == 1:
        models_of(server.fastgpt())
    else:
        with pytest.raises(LocalModelsError, match="code_error"):
            models_of(server.fastgpt())
    assert server.logins == logins


def test_login_before_4_9_8_has_no_code():
    server = FakeFastGPT(MODELS, old_login=True)
    assert models_of(server.fastgpt())[1] == MODELS


def test_a_fresh_fastgpt_is_probed_for_later_flavours_first():
    server = FakeFastGPT({})
    assert models_of(server.fastgpt())[1] == {}
    assert server.asked[2:] == ["GET /api/core/ai/model/getConfigJson", "GET /api/admin/system/model/list",
                                "GET /api/admin/settings/model/list"]


@pytest.mark.parametrize("absent, flavour", [(("/api/core/ai/", "/api/admin/settings/"), "C"), (("/api/core/ai/", "/api/admin/system/"), "B")])
def test_flavours_of_4_17_are_recognised_and_refused(absent, flavour, monkeypatch):
    server = FakeFastGPT({}, absent_routes=absent)
    answer = server.request

    def request(method, path, *rest, **more):
        if path.startswith("/api/admin/"):
            got = answer(method, path, *rest, **more) if path.startswith(absent) else None
            return got or answer("GET", "/api/common/system/getInitData")
        return answer(method, path, *rest, **more)
    monkeypatch.setattr(server, "request", request)
    with pytest.raises(LocalModelsError, match="Not supported yet: FastGPT at .* has flavour %s" % flavour):
        models_of(server.fastgpt())


def test_a_fastgpt_without_model_administration_is_told():
    with pytest.raises(LocalModelsError, match="no administration of models"):
        models_of(FakeFastGPT({}, absent_routes=("/api/core/ai/", "/api/admin/")).fastgpt())


def test_a_write_in_check_mode_raises_before_it_is_sent():
    server = FakeFastGPT(MODELS)
    models, dummy = models_of(server.fastgpt(read_only=True))
    for write in (lambda: models.write("m:latest", {}), lambda: models.delete("m:latest"), lambda: models.set_defaults({})):
        with pytest.raises(LocalModelsError, match="only looks"):
            write()
    assert server.written == []


def test_nothing_ever_logs_out():
    server = FakeFastGPT(MODELS)
    models_of(server.fastgpt())
    assert not [line for line in server.asked if "loginout" in line]


# -- the file of the token

def kept(tmp_path, password="1234", url="http://h:3000", project="/opt/fastgpt"):
    return Session(url, project, password, str(tmp_path / "run"))


def test_the_token_lies_in_a_private_file(tmp_path):
    kept(tmp_path).save("secret-token")
    assert kept(tmp_path).load() == "secret-token"
    folder = tmp_path / "run"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()] == [0o600]


@pytest.mark.parametrize("other", [{"password": "4321"}, {"url": "http://h:3001"}, {"project": "/opt/other"}])
def test_another_password_url_or_project_finds_no_token(tmp_path, other):
    kept(tmp_path).save("secret-token")
    assert kept(tmp_path, **other).load() is None


def test_forget(tmp_path):
    kept(tmp_path).save("secret-token")
    kept(tmp_path).forget()
    assert kept(tmp_path).load() is None


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_a_folder_that_others_can_enter_is_not_used(tmp_path, mode):
    session = kept(tmp_path)
    session.save("secret-token")
    os.chmod(tmp_path / "run", mode)
    assert session.load() is None and session.unsafe
    before = sorted((tmp_path / "run").iterdir())
    session.save("another")
    assert sorted((tmp_path / "run").iterdir()) == before


def test_a_link_in_place_of_the_folder_is_not_followed(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (tmp_path / "run").symlink_to(elsewhere)
    session = kept(tmp_path)
    session.save("secret-token")
    assert session.unsafe and list(elsewhere.iterdir()) == []


def test_a_file_that_others_can_read_is_not_believed(tmp_path):
    session = kept(tmp_path)
    session.save("secret-token")
    file = next((tmp_path / "run").iterdir())
    os.chmod(file, 0o644)
    assert session.load() is None


@pytest.mark.parametrize("uid, environ, expected", [
    (0, {"XDG_RUNTIME_DIR": "/run/user/1000"}, "/run/localmodels-fastgpt"),
    (1000, {"XDG_RUNTIME_DIR": "/run/user/1000"}, "/run/user/1000/localmodels-fastgpt"),
    (1000, {}, "localmodels-fastgpt-1000"),
])
def test_the_folder_belongs_to_its_user(uid, environ, expected):
    assert runtime_folder(environ, uid).endswith(expected)
