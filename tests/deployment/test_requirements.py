"""What lists and files of requirements ask for, and whether that is all in them."""

from pathlib import Path

import cloudpickle
import pytest

from sheepdog.deployment.requirements import in_file, in_list, settings, unmet
from sheepdog.errors import ConfigError


@pytest.mark.parametrize(
    ("item", "whole"),
    [
        ("wool", True),
        ("wool[fine]>=1; python_version < '4'", True),
        ("wool @ https://example.org/wool-1-py3-none-any.whl", False),
        ("wool @ git+https://example.org/wool", False),
        ("wheels/wool-1-py3-none-any.whl", False),
        ("file:///wool", False),
    ],
)
def test_lists(item: str, whole: bool) -> None:
    assert in_list(["silk", item]).whole is whole


LOCK = """lock-version = "1.0"
[[packages]]
name = "wool"
version = "1.0"
marker = "python_version < '4'"
wheels = [{url = "https://example.org/wool.whl", hashes = {sha256 = "00"}}]
"""


@pytest.mark.parametrize(
    ("name", "text", "requirements", "whole"),
    [
        ("r.txt", "# all\nwool==1 \\\n  --hash=sha256:00\n\nsilk # fine\n", ["wool==1", "silk"], True),
        ("r.txt", "--index-url https://example.org\n--pre\nwool\n", ["wool"], True),
        ("r.txt", "--index-url https://$HOST\nwool\n", ["wool"], False),
        ("r.txt", "-r inner.txt\nwool\n", ["silk", "wool"], False),
        ("r.txt", "--requirement=inner.txt\n", ["silk"], False),
        ("r.txt", "-r gone.txt\n-r r.txt\nwool", ["wool"], False),
        ("r.txt", "-c inner.txt\nwool\n", ["wool"], False),
        ("r.txt", "--find-links wheels\nwool\n", ["wool"], False),
        ("r.txt", "-e .\n", [], False),
        ("r.txt", "./wool-1-py3-none-any.whl\n", ["./wool-1-py3-none-any.whl"], False),
        ("script.py", '# /// script\n# dependencies = [\n#   "wool",\n# ]\n# ///\n', ["wool"], True),
        (
            "script.py",
            '# /// script\n# dependencies = ["wool"]\n#\n# [tool.uv.sources]\n# wool = {path = "w"}\n# ///\n',
            ["wool"],
            False,
        ),
        ("script.py", "import wool\n", [], True),
        ("pyproject.toml", '[project]\nname = "a"\ndependencies = ["wool>1"]\n', ["wool>1"], True),
        ("pyproject.toml", '[project]\ndynamic = ["dependencies"]\n', [], False),
        ("pyproject.toml", "[project", [], False),
        ("pylock.toml", LOCK, ["wool==1.0; python_version < '4'"], True),
        (
            "pylock.toml",
            LOCK.replace("https://example.org", "file:///here"),
            ["wool==1.0; python_version < '4'"],
            False,
        ),
        ("setup.py", "", [], False),
    ],
)
def test_files(tmp_path: Path, name: str, text: str, requirements: list[str], whole: bool) -> None:
    (tmp_path / "inner.txt").write_text("silk\n")
    (tmp_path / name).write_text(text)
    found = in_file(tmp_path / name)
    assert list(found.requirements) == requirements
    assert found.whole is whole


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("uv.lock", r"Name pylock\.toml, which this writes: uv export --no-emit-project -o pylock\.toml$"),
        ("poetry.lock", r"Name requirements\.txt, which this writes: poetry export"),
        ("Pipfile.lock", r"Name requirements\.txt, which this writes: pipenv requirements"),
        ("environment.yml", r"is no file of requirements: name what is to come in packages=\[...\]"),
    ],
)
def test_files_that_are_for_others_are_refused_with_what_helps(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / name).write_text("")
    with pytest.raises(ConfigError, match=words):
        in_file(tmp_path / name)


def test_what_uv_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("UV_CONSTRAINT", str(tmp_path / "constraints.txt"))
    seen = [settings()]
    monkeypatch.setenv("UV_INDEX_URL", "https://example.org")
    seen.append(settings())
    (tmp_path / "constraints.txt").write_text("wool<2")
    seen.append(settings())
    (tmp_path / "pyproject.toml").write_text("[tool.uv]\nno-index = true\n")
    seen.append(settings())
    (tmp_path / "uv.toml").write_text("no-index = false\n")
    seen.append(settings())
    (tmp_path / "config/uv").mkdir(parents=True)
    (tmp_path / "config/uv/uv.toml").write_text("no-index = true\n")
    seen.append(settings())
    assert len(set(map(tuple, seen))) == len(seen)
    monkeypatch.setenv("UV_CACHE_DIR", "/elsewhere")
    assert settings() == seen[-1]


HERE = cloudpickle.__version__


@pytest.mark.parametrize(
    ("requirement", "met"),
    [
        ("cloudpickle", True),
        ("cloudpickle>=1", True),
        ("CloudPickle[some] >1, !=1.5", True),
        (f"cloudpickle=={HERE}", True),
        (f"cloudpickle=={HERE.split('.')[0]}.*", True),
        (f"cloudpickle~={HERE}", True),
        ("Cloud.Pickle", False),
        ("cloudpickle==0.1", False),
        ("cloudpickle<1", False),
        ("cloudpickle>=99", False),
        (f"cloudpickle!={HERE}", False),
        ("cloudpickle[some] == 0.*", False),
        ("nowhere", False),
        ("nowhere; python_version > '3'", False),
        ("nowhere; python_version < '3.7'", True),
        ("nowhere; 'a' in extras", True),
        ("nowhere @ file:///w.whl", False),
        ("./a-1-py3-none-any.whl", True),
    ],
)
def test_what_is_met_here(requirement: str, met: bool) -> None:
    assert (unmet([requirement]) == []) is met
