"""Grid Engine: the parsers on what it really printed, the verbs with programs on the PATH that print it again."""

import getpass
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sheepdog.config import Config, make_config
from sheepdog.errors import HostError, SchedulerBusy, SchedulerError, TooManyWorkers, UnknownResource
from sheepdog.schedulers import job_file
from sheepdog.schedulers.batch import WORKER_MEMORY
from sheepdog.schedulers.gridengine import (
    directives,
    parse_known,
    parse_limits,
    parse_qacct,
    parse_qstat,
    parse_qsub,
    parse_reasons,
    parse_waiting,
)
from sheepdog.schedulers.site import Site, parse_site
from sheepdog.values.model import End, Fate, JobStatus
from tests.faults import fault
from tests.schedulers.head import CAPTURED, JOB, Head

EIGHT = frozenset("12345678")


def running(*elements: str, pending: int = 0) -> JobStatus:
    return JobStatus(pending, frozenset(elements))


def waits(pending: int, held: bool = False) -> JobStatus:
    return JobStatus(pending, held=held)


# The parsers

QSTAT = {
    "empty": {},
    "running": {"5": running("1")},
    "suspended": {"5": running("1")},
    "running-array": {"1": JobStatus(12, EIGHT)},
    "pending-array": {"1": JobStatus(12, EIGHT), "2": waits(12)},
    "held": {"1": JobStatus(12, EIGHT), "2": waits(12), "3": waits(4, held=True), "4": waits(1, held=True)},
    "being-deleted": {
        "1": replace(running("5", "7", "8"), deleting=frozenset("578")),
        "3": waits(4, held=True),
        "4": waits(1, held=True),
    },
    "eqw": {"33": JobStatus(broken=True)},
    "eqw-array": {"35": JobStatus(broken=True)},
}
REASONS = {
    "eqw-no-directory": ["error: can't chdir to /nonexistent: No such file or directory"],
    "eqw-no-output": ['can\'t stat() "/root/x" as stdout_path: Permission denied'],
    "eqw-array-exit-100": ["exit_status of job start = 100", "exit_status of job start = 100"],
    "binary-no-shell-posix_compliant": ["execvlp(/nonexistent/python3, "],
    "binary-no-shell-unix_behavior": ["execvlp(/nonexistent/python3, "],
    "no-interpreter-unix_behavior": ['job_scripts/26") failed: No such file or directory'],
    "no-shell-but-interpreter-posix_compliant": ['unable to find shell "/nonexistent/python3"'],
    "no-shell-posix_compliant": ['unable to find shell "/nonexistent/python3"'],
    "held": [],
    "known-and-unknown": [],
    "pending-array": [],
    "running-array": [],
    "running": [],
    "two-unknown": [],
    "unknown": [],
}
WAITING = {
    "held": ["Job is in hold state"],
    "known-and-unknown": ["Job is in hold state"],
    "pending-array": ["not all array tasks may be started due to 'max_aj_instances'"],
    "running-array": [
        'queue instance "all.q@node2" dropped because it is full',
        'queue instance "all.q@node1" dropped because it is full',
        "All queues dropped because of overload or full",
    ],
    "eqw-no-output": [],
    "no-shell-posix_compliant": [],
    "unknown": [],
}
LIMIT = "exit status 137, failed 37 : qmaster enforced h_rt, h_cpu, or h_vmem limit"
QACCT = {
    "ok": ["exit status 0"],
    "task": ["exit status 3"],
    "array-exit-3": ["exit status 3", "exit status 3"],
    "killed": ["exit status 137, failed 100 : assumedly after job"],
    "h_rt": [LIMIT],
    "h_vmem": [LIMIT],
    "binary-no-such-posix_compliant": ["exit status 127"],
    "binary-no-such-unix_behavior": ["exit status 127"],
    "env-no-interpreter-posix_compliant": ["exit status 2"],
    "env-no-interpreter-unix_behavior": ["exit status 127"],
    "no-interpreter-posix_compliant": ["exit status 2"],
    "no-shell-but-interpreter-unix_behavior": ["exit status 0"],
    "no-shell-unix_behavior": ["exit status 2"],
    "no-accounting-yet": [],
    "no-accounting-yet.stderr": [],
    "not-found": [],
    "task-not-found": [],
}
QSUB = {"terse-array": "1"}


@pytest.mark.parametrize("name", QSTAT)
def test_the_jobs_of_a_user(name: str) -> None:
    assert parse_qstat((CAPTURED / f"qstat-u-{name}.xml").read_bytes()) == QSTAT[name]


@pytest.mark.parametrize("name", REASONS)
def test_why_a_job_is_in_error(name: str) -> None:
    found = parse_reasons((CAPTURED / f"qstat-j-{name}.xml").read_bytes())
    [reasons] = found.values() or [[]]
    assert len(reasons) == len(REASONS[name])
    assert all(words in reason for words, reason in zip(REASONS[name], reasons, strict=True))


@pytest.mark.parametrize("name", WAITING)
def test_why_a_job_waits(name: str) -> None:
    assert parse_waiting((CAPTURED / f"qstat-j-{name}.xml").read_bytes()) == WAITING[name]


@pytest.mark.parametrize("name", QACCT)
def test_how_the_elements_of_a_job_ended(name: str) -> None:
    assert [end.text for end in parse_qacct((CAPTURED / f"qacct-j-{name}.txt").read_bytes())] == QACCT[name]


@pytest.mark.parametrize("name", QSUB)
def test_the_number_of_a_job(name: str) -> None:
    assert parse_qsub((CAPTURED / f"qsub-{name}.txt").read_text()) == QSUB[name]


@pytest.mark.parametrize(
    "file", [*CAPTURED.glob("qsub-refused-*"), CAPTURED / "qsub-no-master.txt"], ids=lambda f: f.stem
)
def test_a_refusal_is_no_number(file: Path) -> None:
    with pytest.raises(SchedulerError, match="not the number of a job"):
        parse_qsub(file.read_text())


@pytest.mark.parametrize("parse", [parse_qstat, parse_reasons, parse_waiting])
@pytest.mark.parametrize("name", ["qstat-u-no-master.txt", "qstat-j-unknown.txt"])
def test_what_is_not_xml_is_quoted(parse: Callable[[bytes], object], name: str) -> None:
    with pytest.raises(SchedulerError, match=r"did not print XML .*(Connection refused|do not exist)"):
        parse((CAPTURED / name).read_bytes())
    with pytest.raises(SchedulerError, match="did not print XML"):
        parse(b"")


def test_every_captured_file_has_its_test() -> None:
    tested = {f"qstat-u-{name}.xml" for name in QSTAT} | {f"qstat-j-{name}.xml" for name in REASONS}
    tested |= {f"qacct-j-{name}.txt" for name in QACCT} | {f"qsub-{name}.txt" for name in QSUB}
    tested |= {
        "qconf-site.txt",
        "qconf-bare-site.txt",
        "qstat-u-no-master.txt",
        "qstat-j-unknown.txt",
        "qsub-no-master.txt",
        "qsub-terse-after-warning.txt",
        "README.md",
    }
    others = {file.name for file in CAPTURED.iterdir()} - tested
    assert {name for name in others if not name.startswith(("qsub-refused-", "qdel-"))} == set()


@fault("wrappers", "a site's qstat prints before and behind its answer", promise="the answer is read all the same")
@pytest.mark.parametrize(
    "behind", [b"", b"\nThank you\n", b"</job_info>\n", b"\n<b>Quota: 5 %\0\xff", b"<?xml version='1.0'?>"]
)
def test_what_is_printed_around_an_answer_is_no_part_of_it(behind: bytes) -> None:
    before = b"Welcome to <head>\nQuota: 5 %\n"
    running = (CAPTURED / "qstat-u-running.xml").read_bytes().rstrip()
    assert parse_qstat(before + running + behind) == QSTAT["running"]
    assert parse_qstat(b"<?xml version='1.0'?>\n<job_info/>" + behind) == {}
    for name in REASONS:
        xml = (CAPTURED / f"qstat-j-{name}.xml").read_bytes().rstrip()
        assert parse_reasons(before + xml + behind) == parse_reasons(xml)
        assert parse_waiting(before + xml + behind) == parse_waiting(xml)
        assert parse_known(before + xml + behind) == parse_known(xml)
    with pytest.raises(SchedulerError, match="did not print XML"):
        parse_qstat(before + running[:-5] + behind)


# The verbs


@pytest.fixture
def head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Head:
    return Head(tmp_path, monkeypatch)


def test_submit(head: Head) -> None:
    head.program("qsub", "qsub-terse-array.txt")
    there = head.home / ".sheepdog/herd_012_ab"
    for _ in range(2):  # the second is for a connection that broke
        assert head.submit() == ("1", str(there))
    [line] = head.ran
    file = there / line.split()[-1]
    assert line.startswith("qsub -terse -b n -sync n -now n sheepdog_012.")
    assert "#$ -t 1-3\n" in file.read_text()
    assert there.stat().st_mode & 0o777 == 0o700
    assert (there / "secret.json").stat().st_mode & 0o777 == 0o600


def known_by_name(head: Head, before: str = "") -> None:
    """Let qstat know the job by its name."""
    qstat = head.bin / "qstat"
    qstat.write_text(
        f"#!/bin/sh\n{before}[ \"$*\" = '-j herd_012_ab' ] && printf 'job_number: 4712\\nowner: %s\\n' \"$(id -un)\"\n"
    )
    qstat.chmod(0o755)


@fault(
    "wrappers",
    "a qsub of the site's own that prints before or after the id, or another number",
    promise="the job is found by its name",
)
@pytest.mark.parametrize(
    "printed",
    [
        (CAPTURED / "qsub-terse-after-warning.txt").read_text(),
        "4711.1-3:1\nThank you for your interest in clusters\n",
        "4711.1-3:1\nYour previous job was 157\n",
        "Your job-array 4711.1-3:1 has been submitted\n",
        "12\n157\n",
        "",
    ],
)
def test_what_is_not_exactly_an_id_is_none(head: Head, printed: str) -> None:
    (head.bin / "printed").write_text(printed)
    head.program("qsub", str(head.bin / "printed"))
    known_by_name(head)
    assert head.submit()[0] == "4712"
    assert len(head.ran) == 1


@pytest.mark.slow
def test_a_job_may_not_show_at_once(head: Head) -> None:
    head.program("qsub", "/dev/null")
    known_by_name(head, "[ -e seen ] || { : >seen; exit 1; }\n")
    assert head.submit()[0] == "4712"
    assert len(head.ran) == 1


@fault("wrappers", "a job behind a wrapper that is over before it is looked for", promise="known by its output's name")
def test_a_job_that_is_over_before_it_is_looked_for(head: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_file, "FIND_TRIES", 1)
    qsub = head.bin / "qsub"
    qsub.write_text("#!/bin/sh\necho 'Welcome'\n: >herd_012_ab.o4713.1\necho 4713.1-3:1\n")
    qsub.chmod(0o755)
    head.program("qstat", "qstat-j-unknown.txt", 1)
    assert head.submit()[0] == "4713"


@fault("wrappers", "a qsub that ends with 0 and submits nothing", promise="an error with its words; nothing is left")
def test_a_submission_that_leaves_no_job(head: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_file, "FIND_TRIES", 1)
    (head.bin / "printed").write_text("verified: no suitable queues\n")
    head.program("qsub", str(head.bin / "printed"))
    head.program("qstat", "qstat-j-unknown.txt", 1)
    with pytest.raises(SchedulerError, match=r"(?s)verified: no suitable queues.*there is no job of this name"):
        head.submit()
    assert list(head.home.glob(".sheepdog/*")) == []


@fault(40, "the answer to a submission is lost", promise="the job is found by its name, not submitted again")
def test_a_job_that_was_submitted_before_the_connection_broke_is_found_by_its_name(head: Head) -> None:
    head.program("qsub", "qsub-terse-array.txt")
    qstat = head.bin / "qstat"
    qstat.write_text(
        "#!/bin/sh\n[ \"$*\" = '-j herd_012_ab' ] || exit 1\n"
        'echo "job_number:                 4711"\necho "owner:                      $(id -un)"\n'
    )
    qstat.chmod(0o755)
    (head.home / ".sheepdog/herd_012_ab/attempted").mkdir(parents=True)
    assert head.submit()[0] == "4711"
    assert head.ran == []


@fault(41, "a submission that the scheduler refuses", promise="an error with its words; nothing is left")
@pytest.mark.parametrize(
    ("captured", "status", "words"),
    [
        ("qsub-refused-unknown-queue.txt", 1, 'requests unknown queue "none.q"'),
        ("qsub-refused-too-many-jobs.txt", 25, "only 2 jobs are allowed per user"),
        ("qsub-refused-bad-option.txt", 2, 'invalid option argument "-nosuch"'),
        ("qsub-no-master.txt", 1, "Connection refused"),
        ("qsub-refused-too-many-tasks.txt", 1, "more than 75000 tasks"),
    ],
)
def test_a_refusal_is_quoted_and_leaves_nothing(head: Head, captured: str, status: int, words: str) -> None:
    head.program("qsub", captured, status, stream=2)
    with pytest.raises(SchedulerError) as caught:
        head.submit()
    assert "qsub on this machine refused the job" in str(caught.value)
    assert words in str(caught.value)
    assert list(head.home.glob(".sheepdog/*")) == []


def test_a_resource_that_the_site_does_not_have(head: Head) -> None:
    """The site says which it has; if it does not, the refusal is all there is."""
    words = (CAPTURED / "qsub-refused-unknown-resource.txt").read_text().strip()
    head.program("qsub", "qsub-refused-unknown-resource.txt", 1, stream=2)
    for known in ("", "There are arch, "):
        with pytest.raises(UnknownResource) as caught:
            head.submit()
        assert words in str(caught.value)
        assert ("There are " in str(caught.value)) == bool(known)
        assert known in str(caught.value)
        head.program("qconf", "qconf-site.txt")


@pytest.mark.parametrize(
    ("captured", "flag"), [("qsub-refused-unknown-queue.txt", "-sql"), ("qsub-refused-unknown-pe.txt", "-spl")]
)
def test_a_queue_or_a_parallel_environment_that_the_site_does_not_have(head: Head, captured: str, flag: str) -> None:
    head.program("qsub", captured, 1, stream=2)
    qconf = head.bin / "qconf"
    qconf.write_text(f"#!/bin/sh\n[ \"$*\" = {flag} ] && printf 'one.q\\nsmq\\n'\n")
    qconf.chmod(0o755)
    words = (CAPTURED / captured).read_text().splitlines()[0]
    with pytest.raises(UnknownResource, match=rf"(?s){re.escape(words)}.*There are one\.q, smq"):
        head.submit()


def test_without_qsub_the_user_learns_where_to_look(head: Head) -> None:
    with pytest.raises(SchedulerError, match=r"there is no qsub on this machine: .*PATH"):
        head.submit()
    assert list(head.home.glob(".sheepdog/*")) == []


def test_one_question_tells_of_all_jobs(head: Head) -> None:
    head.program("qstat", "qstat-u-held.xml")
    status = head.scheduler.status(head.host, ["1", "3"])
    assert status == {"1": JobStatus(12, EIGHT), "3": waits(4, held=True)}
    assert len(head.ran) == 1


def test_what_ended_each_element() -> None:
    def read(name: str) -> list[End]:
        return parse_qacct((CAPTURED / f"qacct-j-{name}.txt").read_bytes())

    assert [(end.element, end.host, end.fate) for end in read("array-exit-3")] == [
        ("1", "node2", Fate.OTHER),
        ("2", "node1", Fate.OTHER),
    ]
    assert [end.fate for end in read("ok")] == [Fate.ITSELF]
    assert [end.fate for end in read("h_rt")] == [Fate.OTHER]


@pytest.mark.parametrize(
    ("said", "unlimited"),
    [
        ("s_rt INFINITY\nh_rt  INFINITY\nlooked\n", True),
        ("s_rt INFINITY\nh_rt  INFINITY\nh_rt  24:00:00,[@old=INFINITY]\nlooked\n", False),
        ("h_rt  INFINITY,[@short=1:0:0]\nlooked\n", False),
        ("h_rt INFINITY\nlooked\n-l h_rt=3600\n", False),
        ("", False),
    ],
)
def test_whether_there_are_limits_of_time(said: str, unlimited: bool) -> None:
    assert parse_limits(said.encode()) is unlimited


@fault(
    "late accounting",
    "a job that is gone, with its accounting late or missing",
    promise="the reason if there is one; else that the accounting does not know it",
)
def test_a_job_that_is_gone_has_a_reason(head: Head) -> None:
    """Which is asked until the accounting knows it, and not again while the job is gone."""
    lists(head, "qstat-u-empty.xml")
    assert head.scheduler.status(head.host, ["7"])["7"].gone  # there is no qacct at all
    for captured in ("qacct-j-not-found.txt", "qacct-j-no-accounting-yet.txt"):
        head.program("qacct", captured, 1)
        assert "accounting does not know it" in head.scheduler.status(head.host, ["7"])["7"].reason
    head.program("qacct", "qacct-j-array-exit-3.txt")
    for _ in range(3):
        [(job, status)] = head.scheduler.status(head.host, ["7"]).items()
        assert (job, status.gone, status.reason) == ("7", True, "2 workers ended with exit status 3")
    assert head.ran.count("qacct -j 7") == 3
    lists(head, "qstat-u-running.xml")
    assert head.scheduler.status(head.host, ["5", "7"])["5"].running


def lists(head: Head, captured: str, one: str = "qstat-j-unknown.xml") -> None:
    """Have qstat list this, and of one job tell that."""
    qstat = head.bin / "qstat"
    qstat.write_text(
        f"#!/bin/sh\necho qstat \"$@\" >>'{head.log}'\n"
        f"case \"$*\" in *-j*) cat '{CAPTURED}/{one}';; *) cat '{CAPTURED}/{captured}';; esac\n"
    )
    qstat.chmod(0o755)


@fault("silence", "qstat lists nothing, though the job waits", promise="it is no end; that of the one job is")
def test_an_empty_list_is_no_end(head: Head) -> None:
    lists(head, "qstat-u-empty.xml", "qstat-j-pending-array.xml")
    assert head.scheduler.status(head.host, ["7"]) == {}
    lists(head, "qstat-u-empty.xml", "qstat-u-empty.xml")
    assert head.scheduler.status(head.host, ["7"]) == {}
    lists(head, "qstat-u-empty.xml")
    assert head.scheduler.status(head.host, ["7"])["7"].gone


def test_the_jobs_that_are_told_of() -> None:
    assert parse_known((CAPTURED / "qstat-j-known-and-unknown.xml").read_bytes()) == {"32": "sheep"}
    assert parse_known((CAPTURED / "qstat-j-two-unknown.xml").read_bytes()) == {}
    with pytest.raises(SchedulerError, match="neither of a job nor"):
        parse_known(b"")


def broken_head(head: Head, jobs: int) -> None:
    """Have qstat list so many jobs in error, and answer of each why."""
    entry = (CAPTURED / "qstat-u-eqw.xml").read_text()
    start, end = entry.index("<job_list"), entry.index("</job_list>") + len("</job_list>")
    listed = "".join(entry[start:end].replace(">33<", f">{number}<") for number in range(1, jobs + 1))
    (head.bin / "listed.xml").write_text(entry[:start] + listed + entry[end:])
    qstat = head.bin / "qstat"
    entry = (CAPTURED / "qstat-j-eqw-no-directory.xml").read_text()
    start, end = entry.index("<djob_info>") + len("<djob_info>"), entry.index("</djob_info>")
    told = "".join(re.sub("number>[0-9]+<", f"number>{number}<", entry[start:end]) for number in range(1, jobs + 1))
    why = head.bin / "why.xml"
    why.write_text(entry[:start] + told + entry[end:])
    qstat.write_text(
        f"#!/bin/sh\necho qstat \"$@\" >>'{head.log}'\n"
        f"case \"$*\" in *'-j {jobs + 1}') cat '{CAPTURED}/qstat-j-unknown.xml';; *-j*) cat '{why}';; "
        f"*) cat '{head.bin}/listed.xml';; esac\n"
    )
    qstat.chmod(0o755)


@fault((38, "Eqw"), "a job in error", promise="the scheduler's own reason is read")
def test_a_job_in_error_has_a_reason(head: Head) -> None:
    broken_head(head, 1)
    status = head.scheduler.status(head.host, ["1"])["1"]
    assert status.broken
    assert "(Eqw): " in status.reason
    assert "can't chdir to /nonexistent" in status.reason


@fault((38, "polite"), "many jobs in error", promise="two questions answer for all")
def test_however_many_jobs_are_in_error_the_scheduler_is_asked_politely(head: Head) -> None:
    """Each is asked for its reason once, until it is cured."""
    broken_head(head, 6)
    jobs = [str(number) for number in range(1, 7)]
    for _ in range(3):
        status = head.scheduler.status(head.host, jobs)
        assert all("can't chdir" in each.reason for each in status.values())
    assert sorted(line.split()[2] for line in head.ran) == ["-j", "-u", "-u", "-u"]
    broken_head(head, 7)
    assert "can't chdir" in head.scheduler.status(head.host, [*jobs, "7"])["7"].reason
    assert head.ran[-1] == "qstat -xml -j 7"
    broken_head(head, 5)
    head.program("qacct", "qacct-j-not-found.txt", 1)
    assert head.scheduler.status(head.host, jobs)["6"].gone
    broken_head(head, 6)
    assert head.scheduler.status(head.host, jobs)["6"].broken
    assert head.ran[-1] == "qstat -xml -j 6"


def test_a_reason_that_could_not_be_asked_is_asked_again(head: Head) -> None:
    broken_head(head, 1)
    (head.bin / "why.xml").write_text("no XML")
    assert "did not print XML" in head.scheduler.status(head.host, ["1"])["1"].reason
    broken_head(head, 1)
    assert "can't chdir" in head.scheduler.status(head.host, ["1"])["1"].reason


@fault((42, "qmaster down"), "the qmaster is down", promise="an error, never taken for the end of the jobs")
def test_a_scheduler_that_does_not_answer_is_an_error_not_an_end(head: Head) -> None:
    head.program("qstat", "qstat-u-no-master.txt", 1, stream=2)
    with pytest.raises(HostError, match="Connection refused"):
        head.scheduler.status(head.host, ["7"])


@pytest.mark.parametrize(("captured", "status"), [("qdel-running-array.txt", 0), ("qdel-unknown.txt", 1)])
def test_cancel(head: Head, captured: str, status: int) -> None:
    """The job is the one that has the name, whatever id was noted."""
    mine(head)
    head.program("qdel", captured, status)
    head.scheduler.cancel(head.host, [head.array("157")])
    assert head.ran == ["qstat -xml -j herd_012_ab", "qdel 4711"]


def mine(head: Head) -> None:
    """Have qstat tell of a job of this user, and of another's with the same name."""
    one = "<JB_job_number>{}</JB_job_number><JB_owner>{}</JB_owner>"
    (head.bin / "one.xml").write_text(one.format(4711, getpass.getuser()) + one.format(4712, "another"))
    head.program("qstat", str(head.bin / "one.xml"))


@fault("cancel", "a job that is gone is cancelled", promise="nothing is deleted")
def test_a_job_that_is_gone_is_not_deleted(head: Head) -> None:
    head.program("qdel")
    head.program("qstat", "qstat-j-unknown.xml")
    head.scheduler.cancel(head.host, [head.array("4711")])
    assert not [line for line in head.ran if line.startswith("qdel")]


@pytest.mark.parametrize("captured", ["qdel-no-master.txt", None])
def test_a_job_that_cannot_be_deleted_now_is_to_be_tried_again(head: Head, captured: str | None) -> None:
    mine(head)
    if captured:
        head.program("qdel", captured, 1)
    with pytest.raises(SchedulerError, match=r"did not delete 4711: .*(unable to send message|qdel)"):
        head.scheduler.cancel(head.host, [head.array("4711")])


@pytest.mark.parametrize(
    ("captured", "said"),
    [
        ("qstat-j-held.xml", "Job is in hold state"),
        ("qstat-j-running-array.xml", "All queues dropped because of overload or full"),
        ("qstat-j-eqw-no-output.xml", ""),
        ("qstat-j-unknown.xml", ""),
        ("qstat-j-unknown.txt", ""),
    ],
)
def test_explain(head: Head, captured: str, said: str) -> None:
    head.program("qstat", captured, 1 if captured.endswith(".txt") else 0)
    assert head.scheduler.explain(head.host, "3") == said
    assert head.ran == ["qstat -xml -j 3"]


IMPOSSIBLE = """\
Job 4 (-l arch=nosuch) cannot run at host "node1" because it offers only hl:arch=lx-amd64
Job 4 (-l arch=nosuch) cannot run at host "node2" because it offers only hl:arch=lx-amd64
verification: no suitable queues
"""


@fault(44, "a job that fits no host, on a full cluster", promise="Grid Engine's reason, at once")
@pytest.mark.parametrize(
    ("said", "why"),
    [
        (
            IMPOSSIBLE,
            'no host fits: (-l arch=nosuch) cannot run at host "node1" because it offers only hl:arch=lx-amd64; '
            '(-l arch=nosuch) cannot run at host "node2" because it offers only hl:arch=lx-amd64',
        ),
        ("verification: no suitable queues\n", "no host fits: no suitable queues"),
        ("verification: found suitable queue(s)\n", ""),
        ("verification: job is already running or is held\n", ""),
        ("error: commlib error: got select error (Connection refused)\n", ""),
    ],
)
def test_a_job_that_can_never_start(head: Head, said: str, why: str) -> None:
    (head.bin / "said").write_text(said)
    head.program("qalter", str(head.bin / "said"), int("no suit" in said))
    assert head.scheduler.hopeless(head.host, "4") == why
    assert head.ran == ["qalter -w v 4"]


# The options of the job file


def options(**config: object) -> list[str]:
    return list(directives(JOB, make_config(config, environ={}, directory="/nowhere", home="/nowhere")))


def test_the_options_of_a_job() -> None:
    assert options() == [
        "-wd $HOME/.sheepdog",
        "-o $HOME/.sheepdog/herd_012_ab/",
        "-j y",
        "-notify",
        "-r y",
        "-S /bin/sh",
        "-N herd_012_ab",
        "-t 1-3",
    ]


def test_the_users_options_come_first_and_stand_in_for_ours() -> None:
    given = ["-cwd", "-j y", "-o $HOME/out", "-r n", "-notify", "-q long.q"]
    assert options(ge_opts=given) == [*given, "-S /bin/sh", "-N herd_012_ab", "-t 1-3"]


def test_resources_are_asked_for() -> None:
    said = options(memory="2G", time="1:30:00", memory_resource="s_vmem")
    assert "-l h_rt=5400" in said
    assert f"-l s_vmem={(2 << 30) + WORKER_MEMORY}" in said


def test_raised_resources_are_asked_for() -> None:
    config = Config(memory="1G", time="1h", on_oom="2x", on_walltime="1.5x").raised(2)
    said = list(directives(JOB, config))
    assert f"-l h_vmem={(4 << 30) + WORKER_MEMORY}" in said
    assert "-l h_rt=8100" in said


# What a site calls things


GPU_PER_SLOT = "gpu                 gpu        INT       <=    YES         YES        0        0"


def asked(captured: str, **config: object) -> Site:
    return parse_site((CAPTURED / f"qconf-{captured}.txt").read_bytes(), Config(**config))  # type: ignore[arg-type]


def test_a_site_says_what_it_calls_things() -> None:
    """Slots of one host, a complex for GPUs that counts for a job, and a limit of memory that counts for each slot."""
    wanted = Config(cpus=4, gpus=2, memory="4G", queue="long.q")
    site = asked("site", cpus=4, gpus=2, memory="4G")
    assert (site.memory, site.gpu, site.environment, site.per_job) == ("h_vmem", "gpu", "smp", frozenset({"gpu"}))
    said = list(directives(JOB, wanted, site))
    assert f"-l h_vmem={2**30 + WORKER_MEMORY // 4}" in said
    assert "-l gpu=2" in said
    assert "-pe smp 4" in said
    assert "-q long.q" in said


def test_gpus_that_count_for_each_slot() -> None:
    text = re.sub("^gpu .*", GPU_PER_SLOT, (CAPTURED / "qconf-site.txt").read_text(), flags=re.MULTILINE).encode()
    wanted = Config(cpus=4, gpus=8)
    assert "-l gpu=2" in list(directives(JOB, wanted, parse_site(text, wanted)))
    with pytest.raises(SchedulerError, match=r"counts gpu once for each slot: 2 gpus cannot be shared by 4 cpus"):
        parse_site(text, Config(cpus=4, gpus=2))
    assert parse_site(text, Config(gpus=1)).gpu == "gpu"


@pytest.mark.parametrize(
    ("line", "instead", "config", "name", "value"),
    [
        ("mem_free +mf +.*", "mem_free mf MEMORY <= YES YES 0 0", {"memory": "1G"}, "memory", "mem_free"),
        ("h_vmem .*", "h_vmem h_vmem MEMORY <= YES JOB 0 0", {"memory": "1G"}, "per_job", {"gpu", "h_vmem"}),
        ("h_vmem .*", "h_vmem h_vmem MEMORY <= YES YES 0 0", {"memory": "1G"}, "per_job", {"gpu"}),
        (r"allocation_rule +\$pe_slots", "allocation_rule    4", {"cpus": 4}, "environment", "smp"),
        ("pe_name +smp", "pe_name            shared", {"cpus": 4}, "environment", "shared"),
        ("gpu .*", "ngpus g INT <= YES YES 0 0", {"gpus": 4}, "gpu", "ngpus"),
    ],
)
def test_sites_differ(line: str, instead: str, config: dict[str, object], name: str, value: object) -> None:
    text, count = re.subn(f"^{line}$", instead, (CAPTURED / "qconf-site.txt").read_text(), flags=re.MULTILINE)
    assert count == 1
    assert getattr(parse_site(text.encode(), Config(**config)), name) == value  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"gpus": 1}, r"no resource for gpus .*lists m_core, m_socket, m_thread, .*option gpu_resource"),
        ({"cpus": 2}, r"no parallel environment whose slots are all on one host .*lists none\. .*parallel_environment"),
    ],
)
def test_a_site_without_what_is_asked_for(config: dict[str, object], words: str) -> None:
    with pytest.raises(SchedulerError, match=words):
        asked("bare-site", **config)


@pytest.mark.slow
def test_a_site_is_asked_only_for_what_the_options_do_not_say(head: Head) -> None:
    """And one that does not answer has the usual names."""
    said = [
        Config(),
        Config(time="1h", queue="long.q"),
        Config(memory="1G", memory_resource="ram"),
        Config(cpus=2, parallel_environment="threads"),
    ]
    assert [head.scheduler.site(head.host, config).memory for config in said] == ["h_vmem", "h_vmem", "ram", "h_vmem"]
    assert head.ran == []
    head.program("qconf", "qconf-bare-site.txt")
    assert head.scheduler.site(head.host, Config(memory="1G")).memory == "h_vmem"
    assert head.ran[0] == "qconf -sc"
    (head.bin / "qconf").unlink()
    assert head.scheduler.site(head.host, Config(cpus=2)).environment == "smp"
    head.program("qconf", "qsub-no-master.txt", 1, stream=2)
    with pytest.raises(SchedulerBusy, match="does not say what resources there are"):
        head.scheduler.site(head.host, Config(cpus=2))


# What a refusal means


@pytest.mark.parametrize(
    ("captured", "status", "kind"),
    [
        ("qsub-refused-too-many-jobs.txt", 25, SchedulerBusy),
        ("qsub-no-master.txt", 1, SchedulerBusy),
        ("qsub-refused-too-many-tasks.txt", 1, TooManyWorkers),
        ("qsub-refused-unknown-queue.txt", 1, UnknownResource),
        ("qsub-refused-never-fits.txt", 1, SchedulerError),
    ],
)
def test_a_refusal_says_whether_to_try_again(head: Head, captured: str, status: int, kind: type) -> None:
    head.program("qsub", captured, status, stream=2)
    with pytest.raises(SchedulerError) as caught:
        head.submit()
    assert type(caught.value) is kind
    if isinstance(caught.value, TooManyWorkers):
        assert caught.value.limit == 75000
