"""The program that asks DRMAA, on the head node: one session for one question, in a process of its own.

    drmaa.pyz about                      print which batch system the library is of
    drmaa.pyz submit JOB_FILE ELEMENTS   submit an array job, and print its ids as one word, such as 12.[1-4]
    drmaa.pyz states JOB...              print the batch system, and for each element `JOB ELEMENT STATE`
    drmaa.pyz cancel JOB...              take the jobs away

It travels with the package drmaa in one archive, and imports nothing of ours: there it may be Python 3.6.

DRMAA lets a process have one session, and its library runs threads. Grid Engine's cannot even be loaded into a Python
that runs already ("cannot allocate memory in static TLS block"). So the program starts itself again, with the library
in LD_PRELOAD. A session ends with its process: jobs are asked for by their ids, in a new one.
"""

import ctypes.util
import glob
import os
import re
import shlex
import sys
from typing import Any, List, Mapping, MutableMapping, Optional

MARK = "SHEEPDOG_DRMAA"  # in the environment: the library is loaded
PREFIX = "#DRMAA "
NOT_FOUND = 127
DEBIAN = "/usr/lib/gridengine-drmaa/lib/libdrmaa.so*"  # where no linker looks
ABSENT = "gone"  # our word for what DRMAA does not know


def main(words: List[str]) -> int:
    library = find_library(os.environ)
    if not library:
        sys.stderr.write("there is no libdrmaa.so where one is looked for\n")
        return NOT_FOUND
    if os.path.isabs(library) and not os.path.exists(library):
        sys.stderr.write("there is no file {}\n".format(library))
        return NOT_FOUND
    if MARK not in os.environ:
        before = os.environ.get("LD_PRELOAD", "")
        os.environ.update({MARK: before, "DRMAA_LIBRARY_PATH": library, "LD_PRELOAD": (library + " " + before).strip()})
        os.execv(sys.executable, [sys.executable, "-I", sys.argv[0]] + words)
    restore(os.environ)
    try:
        import drmaa
    except (OSError, AttributeError) as error:
        sys.stderr.write("{} cannot be used: {}\n".format(library, error))
        return NOT_FOUND
    try:
        with drmaa.Session() as session:
            ask(drmaa, session, words[0], words[1:])
    except drmaa.errors.DrmaaException as error:
        sys.stderr.write("{}: {}\n".format(type(error).__name__, error))
        return 1
    return 0


def ask(drmaa: Any, session: Any, verb: str, words: List[str]) -> None:
    """Put one question."""
    if verb == "about":
        print(session.drmsInfo)
    elif verb == "submit":
        submit(session, words[0], int(words[1]))
    elif verb == "states":
        print(session.drmsInfo)
        for job in words:
            for element, one in enumerate(ids_of(job), 1):
                print(job, element, state_of(drmaa, session, one))
    elif verb == "cancel":
        cancel(drmaa, session, [one for job in words for one in ids_of(job)])


def submit(session: Any, file: str, elements: int) -> None:
    """Submit a job as its file says in the lines that begin with #DRMAA: each an attribute and its value."""
    template = session.createJobTemplate()
    native = []
    with open(file) as lines:
        for name, value in re.findall("^" + PREFIX + r"(\S+) (.*)$", lines.read(), re.MULTILINE):
            if name == "nativeSpecification":
                native.append(value)
            else:
                setattr(template, name, shlex.split(value) if name == "args" else value)
    template.nativeSpecification = " ".join(native)
    job = word_of(session.runBulkJobs(template, 1, elements, 1))
    # Whoever comes again after a broken connection finds it here: DRMAA finds no job by its name.
    with open("submitted.new", "w") as made:
        made.write(job + "\n")
    os.rename("submitted.new", "submitted")
    print(job)


def cancel(drmaa: Any, session: Any, ids: List[str]) -> None:
    """Take elements away. One that has ended is no error; one that cannot be taken away keeps none of the others."""
    refused = None
    for one in ids:
        try:
            session.control(one, drmaa.JobControlAction.TERMINATE)
        except drmaa.errors.InvalidJobException:
            pass
        except drmaa.errors.DrmCommunicationException:
            raise
        except drmaa.errors.DrmaaException as error:
            refused = error
    if refused is not None:
        raise refused


def state_of(drmaa: Any, session: Any, one: str) -> str:
    """Return the state of an element in DRMAA's word."""
    try:
        return str(session.jobStatus(one))
    except drmaa.errors.InvalidJobException:
        return ABSENT


def word_of(ids: List[str]) -> str:
    """Return the ids of an array's elements as one word: 12.[1-4] for 12.1 to 12.4; if they do not count up, all."""
    for number in reversed(list(re.finditer(r"\d+", ids[0]))):
        first = int(number.group())
        last = first + len(ids) - 1
        word = "{}[{}-{}]{}".format(ids[0][: number.start()], first, last, ids[0][number.end() :])
        if ids_of(word) == ids:
            return word
    return ",".join(ids)


def ids_of(word: str) -> List[str]:
    """Return the ids of an array's elements, in their order."""
    found = re.match(r"(.*)\[(\d+)-(\d+)\](.*)\Z", word)
    if found is None:
        return word.split(",")
    before, first, last, behind = found.groups()
    return [before + str(number) + behind for number in range(int(first), int(last) + 1)]


def find_library(environ: Mapping[str, str]) -> Optional[str]:
    """Return where DRMAA's library is: as the environment says, or where linkers and batch systems have it."""
    said = environ.get("DRMAA_LIBRARY_PATH")
    if said:
        return said
    places = [os.path.join(environ["SGE_ROOT"], "lib/*/libdrmaa.so*")] if environ.get("SGE_ROOT") else []
    found = (sorted(glob.glob(place)) for place in places + [DEBIAN])
    return next((files[0] for files in found if files), None) or ctypes.util.find_library("drmaa")


def restore(environ: MutableMapping[str, str]) -> None:
    """Take back what loading the library took: some batch systems hand the environment on to jobs."""
    before = environ.pop(MARK)
    if before:
        environ["LD_PRELOAD"] = before
    else:
        environ.pop("LD_PRELOAD", None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
