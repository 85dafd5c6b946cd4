# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names that are valid and probably not meant."""

from __future__ import annotations

import pytest
from ansible_collections.localmodels.fastgpt.plugins.module_utils import _mixups
from ansible_collections.localmodels.fastgpt.plugins.module_utils._names import ModelName
from ansible_collections.localmodels.fastgpt.plugins.module_utils._plan import Found, read_wanted


def found(*names):
    return [Found(ModelName.parse(name), "a" * 64, 100) for name in names]


@pytest.mark.parametrize("name, declared, there, mend", [
    ("qwen2.5:05b", [], [], "Probably qwen2.5:0.5b is meant"),
    ("house-blnd:v1", [], ["house-blend:v1"], "Probably house-blend:v1 is meant"),
    ("house-blnd:v1", ["house-blend:v1"], [], "Probably house-blend:v1 is meant"),
    ("Zzz:V1", [], [], "Registries tell upper from lower case: try zzz:v1"),
    ("zzzzzz", [], [], "Correct the name or its tag"),
    ("house", ["house:v2"], ["house:v1"], "A name without a tag means latest; probably house:v1 is meant"),
    ("hf.co/me/Repo-GGUF:q4", [], [], "The repository must hold GGUF files, and the tag must be one of their quantizations, such as Q4_K_M"),
    ("hf.co/me/Repo-GGUF:Q4_KM", [], ["hf.co/me/Repo-GGUF:Q4_K_M"],
     "The repository must hold GGUF files, and the tag must be one of their quantizations, such as Q4_K_M. Probably hf.co/me/Repo-GGUF:Q4_K_M is meant"),
])
def test_a_model_that_does_not_exist_is_named_with_a_way_out(name, declared, there, mend):
    problem = _mixups.unknown_model(ModelName.parse(name), found(*there), read_wanted(declared + [name]))
    assert problem.mend == mend
    assert " has no model " in problem.what


@pytest.mark.parametrize("models, there, said", [
    ([{"name": "x", "state": "absent"}], ["x:7b", "y:7b"],
     ["x:latest is declared absent, and is; the server holds x:7b, which a name without a tag does not mean."]),
    ([{"name": "x", "state": "absent"}], ["x:7b", "x"], []),
    ([{"name": "x:1b", "state": "absent"}], ["x:7b"], []),
    (["x"], ["x:7b"], []),
    (["hf.co/u/r:Q4", "huggingface.co/U/r:q4"], [],
     ["hf.co/u/r:Q4 and huggingface.co/u/r:Q4 are the same model at Hugging Face, and two models to Ollama: declare one of them."]),
    (["hf.co/u/r:Q4"], ["huggingface.co/u/r:Q4"],
     ["hf.co/u/r:Q4 and huggingface.co/u/r:Q4 are the same model at Hugging Face, and two models to Ollama: the server holds the second one."]),
    (["hf.co/u/r:Q4"], ["huggingface.co/u/r:Q4", "hf.co/u/r:Q4"], []),
    ([{"name": "hf.co/u/r:Q4", "state": "absent"}, "huggingface.co/u/r:Q4"], [], []),
    ([{"name": "hf.co/u/r:Q4", "state": "absent"}], ["huggingface.co/u/r:Q4"], []),
    (["me/r:Q4"], ["huggingface.co/me/r:Q4"], []),
    (["huggingface.co/u/r:Q4"], ["hf.co/u/r:Q4"],
     ["huggingface.co/u/r:Q4 and hf.co/u/r:Q4 are the same model at Hugging Face, and two models to Ollama: the server holds the second one."]),
])
def test_what_is_probably_not_meant_is_told(models, there, said):
    assert _mixups.told(read_wanted(models), found(*there)) == said


@pytest.mark.parametrize("name, there, said, mend", [
    ("me/x:v1", [], "registry.ollama.ai/me has no model x:v1", "Correct the name or its tag"),
    ("library/zz:v1", [], "registry.ollama.ai has no model zz:v1", "Correct the name or its tag"),
    ("r.example:5000/lab/zz", [], "r.example:5000/lab has no model zz:latest", "Correct the name or its tag"),
    # Only a name without a tag is mistaken for another tag.
    ("house:v1", ["house:first-and-quite-another-one"], "registry.ollama.ai has no model house:v1", "Correct the name or its tag")])
def test_it_says_where_there_is_no_such_model(name, there, said, mend):
    problem = _mixups.unknown_model(ModelName.parse(name), found(*there), read_wanted([name]))
    assert (problem.what, problem.mend) == (said, mend)
