"""Which files go along with own modules."""

import os
from pathlib import Path

import pytest

from sheepdog.bundle import data
from sheepdog.bundle.code import look_at
from sheepdog.bundle.data import gather, listing
from sheepdog.bundle.own import Kind, Module
from tests.bundle.projects import write


def package(folder: Path, name: str = "pkg") -> dict[str, Module]:
    return {name: Module(name, Kind.OWN, str(folder / name / "__init__.py"), str(folder), (str(folder / name),))}


def names(files: data.Gathered, folder: Path) -> list[str]:
    return sorted(os.path.relpath(path, folder) for path in files.paths)


def test_a_package_goes_with_all_that_is_in_its_folder(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "pkg/__init__.py": "",
            "pkg/sub/m.py": "",
            "pkg/data/table.csv": "1",
            "pkg/build/__init__.py": "",
            "other/__init__.py": "",
            "beside.csv": "",
        },
    )
    left = write(
        tmp_path / "pkg",
        {
            "__pycache__/m.pyc": "",
            ".git/config": "",
            ".hidden": "",
            "venv/pyvenv.cfg": "",
            "venv/lib/x.py": "",
            "node_modules/x.js": "",
            "sheepdog.sqlite": "",
            "sheepdog.sqlite-wal": "",
            "jobs.db-server": "",
            "old/build/lib.linux/x.py": "",
            "pkg.dist-info/METADATA": "",
        },
    )
    os.mkfifo(left / "pipe")
    files = gather(package(tmp_path), {})
    wanted = ["pkg/__init__.py", "pkg/build/__init__.py", "pkg/data/table.csv", "pkg/sub/m.py"]
    assert (names(files, tmp_path), files.facts) == (wanted, [])


WRITTEN = ("app.log", "app.log.1", "run.pid", "x.lock", "y.tmp", ".m.py.swp", "table.csv~", "old.bak", "nohup.out")


def test_what_programs_write_while_they_run_is_no_data(tmp_path: Path) -> None:
    """But what is shipped goes along."""
    write(tmp_path, {"pkg/__init__.py": "", "pkg/catalog": "", **{f"pkg/logs/{name}": "" for name in WRITTEN}})
    write(tmp_path, {"flat.py": "", "logs/app.log": "", "run.pid": ""})
    assert names(gather(package(tmp_path), {}), tmp_path) == ["pkg/__init__.py", "pkg/catalog"]
    look = look_at(compile('def f(): return __file__, "logs", "run.pid"', "flat.py", "exec"))
    flat = Module("flat", Kind.OWN, str(tmp_path / "flat.py"), str(tmp_path))
    assert names(gather({"flat": flat}, {"flat": look}), tmp_path) == ["flat.py"]
    shipped = gather(package(tmp_path), {}, [str(tmp_path / "logs"), str(tmp_path / "pkg/logs/app.log")])
    assert names(shipped, tmp_path) == ["logs/app.log", "pkg/__init__.py", "pkg/catalog", "pkg/logs/app.log"]


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    write(tmp_path, {"pkg/__init__.py": "", "pkg/sub/m.py": "", "far/table.csv": "1"})
    (tmp_path / "pkg/far").symlink_to(tmp_path / "far")
    (tmp_path / "pkg/sub/up").symlink_to(tmp_path / "pkg")
    (tmp_path / "pkg/broken").symlink_to(tmp_path / "nothing")
    files = gather(package(tmp_path), {})
    assert names(files, tmp_path) == ["pkg/__init__.py", "pkg/far/table.csv", "pkg/sub/m.py"]


def test_a_flat_module_goes_with_what_its_source_names(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "flat.py": "",
            "table.csv": "",
            "data/a.csv": "",
            "data/b.csv": "",
            "other.csv": "",
            "named.py": "",
            "deep/c": "",
        },
    )
    source = """
from pathlib import Path
HERE = Path(__file__).parent
def f(): return HERE / "table.csv", HERE / "data", "other", "./deep/c", "named.py", "..", "/", "", "x" * 3, "a\\0b"
"""
    module = {"flat": Module("flat", Kind.OWN, str(tmp_path / "flat.py"), str(tmp_path))}
    look = look_at(compile(source, "flat.py", "exec"))
    files = gather(module, {"flat": look})
    assert names(files, tmp_path) == ["data/a.csv", "data/b.csv", "deep/c", "flat.py", "table.csv"]
    unasked = look_at(compile(source.replace("__file__", "name"), "flat.py", "exec"))
    assert names(gather(module, {"flat": unasked}), tmp_path) == ["flat.py"]


def test_what_is_too_large_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "MAX_DATA_FILE", 100)
    write(tmp_path, {"pkg/__init__.py": "x = 1\n" * 100, "pkg/large.bin": "x" * 101, "pkg/small.bin": "x" * 99})
    files = gather(package(tmp_path), {})
    assert names(files, tmp_path) == ["pkg/__init__.py", "pkg/small.bin"]
    assert [str(fact) for fact in files.facts] == [
        f"{tmp_path}/pkg/large.bin does not travel: it has 101 bytes, and a data file at most 100. If the workers need "
        "it, name it in ship=[...], or put it where they can read it"
    ]


@pytest.mark.parametrize(("bound", "value"), [("MAX_DATA", 130), ("MAX_DATA_FILES", 3)])
def test_data_that_is_too_much_is_left_out_the_largest_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, value: int
) -> None:
    monkeypatch.setattr(data, bound, value)
    write(tmp_path, {"pkg/__init__.py": "", **{f"pkg/{number}.bin": "x" * number for number in (20, 30, 40, 50, 60)}})
    files = gather(package(tmp_path), {})
    assert names(files, tmp_path) == ["pkg/20.bin", "pkg/30.bin", "pkg/40.bin", "pkg/__init__.py"]
    [fact] = files.facts
    assert str(fact).startswith(
        f"{tmp_path}/pkg/50.bin does not travel: the package pkg has 5 data files, and 2 are left"
    )


def test_what_is_shipped_has_no_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "MAX_DATA_FILE", 100)
    write(tmp_path, {"large.bin": "x" * 101, "folder/large.bin": "x" * 101, "folder/.git/x": ""})
    files = gather({}, {}, [str(tmp_path / "large.bin"), str(tmp_path / "folder"), str(tmp_path / "gone")])
    assert names(files, tmp_path) == ["folder/large.bin", "large.bin"]
    assert [fact.path for fact in files.facts] == [str(tmp_path / "gone")]


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    write(tmp_path, {"pkg/__init__.py": ""})
    (tmp_path / "pkg/loop").symlink_to(tmp_path / "pkg/loop")
    files = gather(package(tmp_path), {})
    assert [fact.path for fact in files.facts] == [str(tmp_path / "pkg/loop")]
    assert names(files, tmp_path) == ["pkg/__init__.py"]


def test_the_version_of_an_own_project_goes_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that importlib.metadata.version finds it over there, where the project is not installed."""
    write(tmp_path, {"src/pkg/__init__.py": "", "src/pkg.egg-info/PKG-INFO": "", "src/pkg.egg-info/SOURCES.txt": ""})
    direct = f'{{"url": "{tmp_path.as_uri()}", "dir_info": {{"editable": true}}}}'
    write(
        tmp_path / "site",
        {
            "pkg-1.0.dist-info/METADATA": "",
            "pkg-1.0.dist-info/entry_points.txt": "",
            "pkg-1.0.dist-info/direct_url.json": direct,
            "pkg-1.0.dist-info/RECORD": "",
            "other-1.0.dist-info/METADATA": "",
        },
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert names(gather(package(tmp_path / "src"), {}), tmp_path) == [
        "site/pkg-1.0.dist-info/METADATA",
        "site/pkg-1.0.dist-info/entry_points.txt",
        "src/pkg.egg-info/PKG-INFO",
        "src/pkg/__init__.py",
    ]


def test_a_listing_passes_over_what_comes_and_goes(tmp_path: Path) -> None:
    write(tmp_path, {"m.py": "", "log.txt": "", "table.csv": "", "folder/x": ""})
    assert listing(str(tmp_path), frozenset(["table.csv"])) == {"m.py", "table.csv", "folder"}
    assert listing(str(tmp_path / "nothing"), frozenset()) == frozenset()
