"""A worker that has not got the packages that its tasks need, or has others."""

from hashlib import sha256
from typing import Any

import pytest

from sheepdog.storage import Storage
from sheepdog.values.facts import What
from sheepdog.values.files import WANTED, Function, Needed
from sheepdog.values.model import Kind
from sheepdog.values.packages import Wanted, stored
from sheepdog.values.serialisation import form
from tests.server.decide.farm import Farm

PACKAGES = (
    Wanted("numpy", "numpy", "2.4.6", certain=True),
    Wanted("sklearn", "scikit-learn", "1.9.1", certain=True, modules=("sklearn.svm",)),
    Wanted("mine", "", "", certain=False),
    Wanted("perhaps", "perhaps", "2.0", certain=False),
)
LISTED = [["numpy", "numpy", "2.4.6", True, "", []], ["sklearn", "scikit-learn", "1.9.1", True, "", ["sklearn.svm"]]]


class Needing(Farm):
    """A farm whose request needs packages."""

    def __init__(self, storage: Storage, workers: int = 2, **options: Any) -> None:
        super().__init__(storage, [b"1", b"2"], workers, **options)
        listed = stored(PACKAGES)
        name = storage.add_file(listed)
        storage.name_files(self.request, {f"{WANTED}{name}": name})


@pytest.fixture
def farm(storage: Storage) -> Farm:
    return Needing(storage)


def test_a_worker_that_joins_is_told_which_packages(farm: Farm) -> None:
    reply = farm.join("w1")
    assert [list(row) for row in reply.header["packages"]][:2] == LISTED
    assert farm.take("w1", 2) == [1]


def test_without_packages_it_is_told_nothing(storage: Storage) -> None:
    assert "packages" not in Farm(storage, [b"1"]).join("w1").header


def test_one_that_lacks_them_is_refused_with_one_list(farm: Farm) -> None:
    farm.join("w1")
    reply = farm.join("w1", lacking=[["numpy", "", ""], ["sklearn", "1.0", "sklearn.svm"]])
    assert reply.status == 409
    assert "which lacks numpy==2.4.6, sklearn.svm: scikit-learn 1.0 there, 1.9.1 here" in reply.text
    assert reply.text.endswith("-m pip install numpy==2.4.6 scikit-learn==1.9.1")
    assert ". Bring them along with the option packages=True, or install them there: " in reply.text
    assert farm.note == reply.text
    assert farm.errors == []


BROUGHT = {"command": "python", "brought": "hash"}


@pytest.mark.parametrize(
    ("options", "end"),
    [
        ({"interpreter": BROUGHT}, ". Bring them along with the option packages=True"),
        ({"interpreter": BROUGHT, "packages": True}, ". Set packages=['numpy==2.4.6']"),
        ({"interpreter": BROUGHT, "packages": ["a", "b<2"]}, ". Set packages=['a', 'b<2', 'numpy==2.4.6']"),
        ({"packages": "r.txt"}, ". Add to the file r.txt: numpy==2.4.6, or install them there: "),
        ({"scheduler": "local"}, ". Install them there: "),
        ({"scheduler": "local", "shell": "python3.6"}, ". Bring them along with the option packages=True, or "),
    ],
)
def test_only_what_can_help_is_proposed(storage: Storage, options: dict[str, Any], end: str) -> None:
    farm = Needing(storage, **{"host": None, "scheduler": "slurm", **options})
    farm.join("w1")
    text = farm.join("w1", lacking=[["numpy", "", ""]]).text
    assert end in text
    assert ("pip" in text) is ("interpreter" not in options)


def test_what_differs_and_may_not_be_needed_need_not_be_installed(farm: Farm) -> None:
    farm.join("w1")
    reply = farm.join("w1", lacking=[["numpy", "", ""]], others=[["sklearn", "1.0", ""], ["perhaps", "1.0", ""]])
    assert "of another version than here: scikit-learn 1.0 there, 1.9.1 here, perhaps 1.0 there, 2.0 here" in reply.text
    assert reply.text.endswith("-m pip install numpy==2.4.6 scikit-learn==1.9.1")


def test_for_what_is_of_no_known_distribution_pip_is_not_proposed(farm: Farm) -> None:
    farm.join("w1")
    reply = farm.join("w1", lacking=[["mine", "", ""]])
    assert "which lacks mine. mine is here and of no known distribution: name what has it in packages" in reply.text
    assert "pip" not in reply.text
    both = farm.join("w1", lacking=[["mine", "", ""], ["numpy", "", ""]]).text
    assert "mine is here" in both
    assert both.endswith("-m pip install numpy==2.4.6")


def test_when_all_lack_them_the_request_ends_and_no_task_was_run(farm: Farm) -> None:
    for worker in ("w1", "w2"):
        farm.join(worker)
        assert farm.join(worker, lacking=[["numpy", "", ""]]).status == 409
    assert len(farm.errors) == 2
    assert "lacks numpy==2.4.6" in farm.errors[0]
    assert farm.join("w3").status == 410


def test_where_one_has_them_the_other_is_refused_alone(farm: Farm) -> None:
    farm.join("w1")
    farm.join("w2")
    assert farm.take("w2", 1) == [1]
    for number in range(3, 20):
        farm.join(f"w{number}")
        farm.join(f"w{number}", lacking=[["numpy", "", ""]])
    assert farm.errors == []


@pytest.mark.parametrize("said", ["numpy", [["numpy"]], [["other", "", ""]], [7], {"a": 1}])
def test_nonsense_is_refused(farm: Farm, said: Any) -> None:
    assert farm.join("w1", lacking=said).status == 400


def test_packages_that_were_brought_are_named_and_it_is_said_when_they_are_gone(storage: Storage) -> None:
    farm = Farm(storage, [b"1"], 1)
    storage.name_brought(farm.request, ["packages/old"])
    storage.name_brought(farm.request, ["packages/new"])
    assert farm.join("w1").header["brought"] == ["packages/new"]
    reply = farm.join("w1", gone="/home/a/.sheepdog/packages/new")
    assert (reply.status, len(farm.errors)) == (409, 1)
    assert "not in /home/a/.sheepdog/packages/new on node1: retry sends them" in farm.errors[0]


def test_packages_that_were_brought_for_another_python_are_refused(storage: Storage) -> None:
    farm = Farm(storage, [b"1"], 1)
    storage.name_brought(farm.request, ["packages/new"])
    farm.join("w1")
    reply = farm.join("w1", misfit="CPython 3.12, and this is cpython 3.11.2 (/usr/bin/python3)")
    assert (reply.status, len(farm.errors)) == (409, 1)
    assert "on node1: they are for CPython 3.12, and this is cpython 3.11.2 (/usr/bin/python3). " in farm.errors[0]
    assert "the option shell" in farm.errors[0]


def test_what_differs_is_said_once(farm: Farm) -> None:
    for worker in ("w1", "w2"):
        farm.join(worker)
        farm.exchange(worker, 0, others=[["numpy", "1.26", ""], ["mine", "", ""]])
    farm.service.store_facts(farm.service.live[farm.request])
    assert farm.storage.said(farm.request, What.STOOD_IN) == [
        "a package is of another version there than here: numpy 1.26 there, 2.4.6 here",
        "not installed there, and perhaps not needed: mine",
    ]


def test_a_new_function_brings_its_own_list_and_the_old_one_comes_back(storage: Storage) -> None:
    lists = {version: stored([Wanted("numpy", "numpy", version, certain=True)]) for version in ("1", "2")}
    before, after = ({f"{WANTED}{sha256(each).hexdigest()}": each.__bytes__} for each in lists.values())
    request = storage.new_request(b"f", b"", [b"1"], form=form(), needs=lambda: Needed(b"", before))
    assert storage.wanted(request) == lists["1"]
    storage.end_pending(request, Kind.NOT_RUN, "not run")
    old = storage.function(request)
    storage.retry(request, {}, True, Function(b"g", b"", form(), after))
    assert storage.wanted(request) == lists["2"]
    storage.undo_retry(request, {}, old)
    assert (storage.function(request).function, storage.wanted(request)) == (b"f", lists["1"])
