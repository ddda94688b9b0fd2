"""What another user of the cluster can try while a request runs, and what comes of it: nothing."""

import base64
import json
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sheepdog.server.certificate import make_certificate
from tests.cluster import Cluster, Program
from tests.faults import fault
from tests.user import PYTHON, User
from tests.waiting import until

HOSTS = ("head", "node1", "node2")
GO = "/home/sheep/go"

# What a stranger's programs begin with. What they look for comes on standard input: in their command line they would
# find it themselves.
STRANGER = """
import glob, http.client, json, os, re, signal, socket, ssl, struct, subprocess, sys, time
data = json.load(sys.stdin)

def attempt(f, *args, **options):
    try:
        f(*args, **options)
    except OSError as error:
        return type(error).__name__
    return "done"

def read(path):
    with open(path, "rb") as file:
        return file.read(1 << 26)

def write(path):
    with open(path, "wb") as file:
        file.write(b"baa")

def search(paths, needles):
    "Look into all files; return how many could be read, and which hold a needle."
    count, found = 0, []
    for path in paths:
        try:
            if os.path.isfile(path):
                content = read(path)
                count += 1
                found += [path for needle in needles if bytes.fromhex(needle) in content]
        except OSError:
            pass
    return [count, found]

def below(*places):
    return (os.path.join(top, name) for place in places for top, _, names in os.walk(place) for name in names)

def line(tls=None):
    tls = tls or ssl._create_unverified_context()
    return http.client.HTTPSConnection(data["address"], data["port"], timeout=30, context=tls)

def frame(header, *blobs):
    text = json.dumps(dict(header, blobs=[len(blob) for blob in blobs])).encode()
    return struct.pack("!I", len(text)) + text + b"".join(blobs)

ABOUT = {"worker": "wolf", "host": "x", "pid": 1, "element": "1", "array": 1, "call": 1}
JOIN = frame({**ABOUT, "protocol": 1, "python": {"implementation": "cpython", "version": "3.11.2", "magic": "a70d0d0a",
                                                "executable": "/usr/bin/python3"}})
ASK = frame({**ABOUT, "want": 0, "holding": [], "outcomes": []})
TAKE = frame({**ABOUT, "want": 1000, "holding": [], "outcomes": []})
FORGE = frame({**ABOUT, "want": 0, "holding": [], "outcomes": [[i, 1, 0, 0.1] for i in range(1, 9)]},
              *[b"N." if i % 2 == 0 else b"" for i in range(16)])

def call(verb, body, shown=None, request=None, method="POST", **headers):
    "Return the status and the length of what else the server said."
    if shown is not None:
        headers["Authorization"] = shown
    headers["Content-Type"] = "application/x-sheepdog"
    connection = line()
    connection.request(method, "/requests/%d/%s" % (request or data["request"], verb), body, headers)
    answer = connection.getresponse()
    return [answer.status, len(answer.read())]

def show(value):
    print(json.dumps(value))
"""

# A server of the stranger's own. It tries TLS with every other caller and listens to the rest; at the end it tells what
# it has heard.
SQUATTER = """
import json, os, socket, ssl, sys, tempfile
port, calls, pem = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
with tempfile.NamedTemporaryFile("w") as file:
    file.write(pem)
    file.flush()
    context.load_cert_chain(file.name)
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("", port))
listener.listen(64)
print(listener.getsockname()[1], flush=True)
heard, shaken, refused = b"", 0, []
for number in range(calls):
    caller = listener.accept()[0]
    caller.settimeout(2)
    try:
        if number % 2 == 0:
            caller = context.wrap_socket(caller, server_side=True)
            shaken += 1
        while True:
            chunk = caller.recv(1 << 16)
            if not chunk:
                break
            heard += chunk
    except ssl.SSLError as error:
        refused.append(error.reason)
    except OSError:
        pass
    caller.close()
print(json.dumps([shaken, refused, heard.hex()]), flush=True)
"""


class Scene:
    """A request of sheep's with eight workers that run, another that waits, one that has ended; and a stranger."""

    def __init__(self, cluster: Cluster, place: Path) -> None:
        self.user = User(cluster, place)
        self.home = cluster.home_of("sheep")
        self.wool = secrets.token_hex(16)  # an argument, and what the tasks print
        code = f"""
            def wait(i, wool):
                import os, time
                print(wool, flush=True)
                while not os.path.exists({GO!r}): time.sleep(0.1)
                return [i, wool]
            C["lease"] = 20
            sheepdog.map(f, [(1, 1)], C)
            sheepdog.map_async(wait, [(i, {self.wool!r}) for i in range(8)], {{**C, "name": "herd"}})
            sheepdog.map_async(wait, [(0, "")], {{**C, "ge_opts": ["-h"]}})
            show([Storage(DB).get_request(i).token for i in (1, 2, 3)])
        """
        self.ended, self.token, self.other = self.user.run(code)
        until(lambda: self.running() == 8, "eight workers run")
        self.directory = next((self.home / ".sheepdog").glob("herd_002_*"))
        self.secret = json.loads(next(self.directory.rglob("secret.json")).read_text())
        self.job = self.user.sh("head", "qstat -u sheep -s r | grep ' r ' | head -n 1").split()[0]
        self.address, port = self.secret["urls"][0].removeprefix("https://").split(":")
        self.port = int(port)
        until(lambda: len(self.pids("node1")) == 8, "each worker of node1 has a child")  # four, and a child of each

    def running(self) -> int:
        return len(self.user.sh("head", "qstat -u sheep -s r | grep ' r '").splitlines())

    def pids(self, host: str) -> list[int]:
        return [int(pid) for pid in self.user.sh(host, "pgrep -u sheep -f 'client[.]pyz'").split()]

    def needles(self) -> list[str]:
        """The secrets, and what they look like in other clothes."""
        found: set[bytes] = {self.wool.encode()}
        for token in (self.token, self.other, self.ended):
            raw = bytes.fromhex(token)
            for text in (token.encode(), raw):
                found |= {text, text[::-1], base64.b64encode(text).rstrip(b"="), base64.b32encode(text).rstrip(b"=")}
                found |= {base64.urlsafe_b64encode(text).rstrip(b"="), base64.b85encode(text)}
            found |= {token.upper().encode(), token[:24].encode(), token[-24:].encode()}
            found |= {token.encode("utf-16-le"), token.encode("utf-32-le"), ":".join(token).encode()}
            found |= {" ".join(f"{byte:02x}" for byte in raw).encode(), str(int(token, 16)).encode()}
        return [needle.hex() for needle in found]

    def stranger(self, host: str, code: str, **data: Any) -> Any:
        """Run a program as the other user, and return what it shows."""
        given = {"address": self.address, "port": self.port, "request": 2, **data}
        command = [PYTHON, "-c", f"{STRANGER}\n{code}"]
        return json.loads(self.user.cluster.on(host, command, user="other", input=json.dumps(given)).stdout)

    def listener(self, host: str, user: str, python: str, port: int, calls: int) -> tuple[Program, int]:
        """Start a server of a stranger's, with a certificate of its own."""
        pem = "".join(reversed(make_certificate()))
        command = [python, "-c", SQUATTER, str(port), str(calls), pem]
        program = self.user.cluster.popen(host, command, user=user, stdout=-1)
        assert program.stdout
        return program, int(program.stdout.readline())

    def outcomes(self) -> int:
        code = "show([[r for _, r in sheepdog.get_results(i, DB, block=False) if r] + errors(i) for i in (2, 3)])"
        return sum(map(len, self.user.run(code)))


@pytest.fixture(scope="module")
def scene(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    place = tmp_path_factory.mktemp("strangers")
    go = cluster.home_of("sheep") / "go"
    go.unlink(missing_ok=True)
    user = User(cluster, place)
    try:
        yield Scene(cluster, place)
    finally:
        user.run("leave(DB)")
        user.sh("head", "qdel -u sheep")
        until(lambda: not user.queue(), "the queue is empty")
        for host in HOSTS:
            user.sh(
                host, "cd /tmp && rm -rf *wolf* mine *sheepdog* client.pyz secret.json cloudpickle.zip json.py", "root"
            )
        user.sh("head", f"rm -rf ~/.sheepdog ~/copy ~/private {GO}")


ATTEMPTS: list[Any] = []


def promise(text: str) -> Callable[[Callable[[Scene], None]], Callable[[Scene], None]]:
    """Add an attempt, and what is promised against it."""

    def add(attempt: Callable[[Scene], None]) -> Callable[[Scene], None]:
        ATTEMPTS.append(pytest.param(attempt, text, id=attempt.__name__))
        return attempt

    return add


# --- read


@promise("the files of a request are its owner's alone")
def read_the_files(scene: Scene) -> None:
    here = f"/home/sheep/.sheepdog/{scene.directory.name}"
    files = [str(path).replace(str(scene.home), "/home/sheep") for path in scene.directory.rglob("*")]
    assert any(file.endswith("secret.json") for file in files)
    assert any(file.endswith(".sh") for file in files)
    assert any(".o" in file for file in files)  # the scheduler's output files
    code = """show([[attempt(read, file) for file in data["files"]],
        [attempt(os.listdir, place) for place in data["places"]], search(below(*data["places"]), data["needles"])])"""
    for host in HOSTS:
        found = scene.stranger(host, code, files=files, places=["/home/sheep/.sheepdog", here], needles=scene.needles())
        assert found == [["PermissionError"] * len(files), ["PermissionError"] * 2, [0, []]]


@promise("no secret is in the scheduler's spool, where job files are for all to read")
def read_the_spool(scene: Scene) -> None:
    code = 'show(search(below("/var/spool/gridengine", "/var/lib/gridengine"), data["needles"]))'
    for host in HOSTS:
        count, found = scene.stranger(host, code, needles=scene.needles())
        assert count > 2
        assert found == []
    script = scene.user.sh("node1", "cat /var/spool/gridengine/execd/*/job_scripts/*", "other")
    assert "client.pyz" in script  # so it is


@promise("the scheduler, asked about the job, tells no secret")
def ask_the_scheduler(scene: Scene) -> None:
    code = """
commands = [["qstat", "-j", data["job"]], ["qstat", "-xml", "-j", data["job"]], ["qstat", "-ext", "-u", "*"],
            ["qstat", "-f", "-u", "*"], ["qacct", "-j"], ["qhost", "-j"]]
said = b"".join(subprocess.run(command, stdout=subprocess.PIPE).stdout for command in commands)
show([data["job"].encode() in said, [needle for needle in data["needles"] if bytes.fromhex(needle) in said]])
"""
    assert scene.stranger("head", code, job=scene.job, needles=scene.needles()) == [True, []]


@promise("no secret is in an argument or an environment variable of any process")
def list_processes(scene: Scene) -> None:
    code = """
said = subprocess.run(["ps", "-efww", "e"], stdout=subprocess.PIPE).stdout
found = [needle for needle in data["needles"] if bytes.fromhex(needle) in said]
names = ("cmdline", "environ", "comm", "status", "stat", "maps", "auxv", "cgroup", "mountinfo", "limits", "io")
files = [file for name in names for top in ("", "task/*/") for file in glob.glob("/proc/[0-9]*/" + top + name)]
show([b"client" + b".pyz" in said, found, search(files, data["needles"])[1]])
"""
    for host in HOSTS:
        assert scene.stranger(host, code, needles=scene.needles()) == [host != "head", [], []]


@promise("a worker's memory, files and environment are closed to others")
def look_into_a_worker(scene: Scene) -> None:
    code = """
doors = ["environ", "mem", "maps", "fd", "cwd", "root", "exe", "stack", "map_files", "syscall", "pagemap"]
def open_door(path):
    os.listdir(path) if os.path.basename(path) in ("fd", "map_files") else os.readlink(path) \\
        if os.path.basename(path) in ("cwd", "root", "exe") else read(path)
show([attempt(open_door, "/proc/%d/%s" % (pid, door)) for pid in data["pids"] for door in doors])
"""
    assert set(scene.stranger("node1", code, pids=scene.pids("node1"))) == {"PermissionError"}


@promise("what a task prints and what a worker spools is in no file that others can open")
def read_temporary_files(scene: Scene) -> None:
    code = (
        'show([glob.glob("/tmp/*.all.q"), search(below("/tmp", "/var/tmp", "/dev/shm", "/run"), data["needles"])[1]])'
    )
    for host in HOSTS:
        places, found = scene.stranger(host, code, needles=scene.needles())
        assert bool(places) == (host != "head")  # the scheduler's own, for $TMPDIR
        assert found == []


# --- call


@promise("without a token nobody joins, and the refusal holds no function")
def join_without_a_token(scene: Scene) -> None:
    status, length = scene.stranger("node2", 'show(call("join", JOIN))')
    assert (status, length < 200) == (401, True)


@promise("without a token nobody gets tasks")
def take_tasks_without_a_token(scene: Scene) -> None:
    status, length = scene.stranger("node2", 'show(call("exchange", TAKE))')
    assert (status, length < 200) == (401, True)


@promise("without a token nobody reports outcomes")
def forge_outcomes(scene: Scene) -> None:
    before = scene.outcomes()
    assert scene.stranger("node1", 'show(call("exchange", FORGE)[0])') == 401
    assert scene.outcomes() == before == 0


@promise("a token opens its own request and no other")
def use_another_request_s_token(scene: Scene) -> None:
    code = """calls = [("join", JOIN), ("exchange", FORGE)]
show([call(verb, body, "Bearer " + data["token"])[0] for verb, body in calls]
     + [call("exchange", ASK, "Bearer " + data["token"], 3)[0]])"""
    assert scene.stranger("node2", code, token=scene.other) == [401, 401, 200]
    assert scene.outcomes() == 0


@promise("a token must be whole, and nothing but it")
def use_a_token_that_is_nearly_right(scene: Scene) -> None:
    token = scene.token
    wrong = [
        token[:-1],
        token[1:],
        token + "0",
        token + "\t",
        token.upper(),
        token[:32],
        "0" * 64,
        "*",
        "",
        " ",
        "é" * 64,
    ]
    shown = [f"Bearer {each}" for each in wrong] + [token, f"bearer{token}", f"Basic {token}", f"Bearer Bearer {token}"]
    shown = [each for each in shown if each.strip() != f"Bearer {token}"]  # HTTP drops blanks at the end
    code = 'show([call("exchange", ASK, shown.encode())[0] for shown in data["shown"]])'
    assert scene.stranger("node1", code, shown=shown) == [401] * len(shown)
    assert scene.stranger("node1", code, shown=[f"Bearer {token}"]) == [200]


@promise("a token that is sent elsewhere than in its header is none")
def show_the_token_elsewhere(scene: Scene) -> None:
    code = """
def ask(path, **headers):
    connection = line()
    connection.request("POST", path, ASK, headers)
    return connection.getresponse().status
path, token = "/requests/2/exchange", data["token"]
show([ask(path + "?token=" + token), ask(path, Cookie="token=" + token), ask(path, **{"X-Token": token}),
      ask(path, **{"Proxy-Authorization": "Bearer " + token})])
"""
    assert scene.stranger("node1", code, token=scene.token) == [401] * 4


@promise("the token of a request that has ended opens nothing")
def use_the_token_of_an_ended_request(scene: Scene) -> None:
    code = """shown = "Bearer " + data["token"]
calls = [("join", JOIN), ("exchange", TAKE)]
show([call(verb, body, shown, request) for request in (1, 2, 3) for verb, body in calls])"""
    answers = scene.stranger("node2", code, token=scene.ended)
    assert [status for status, _ in answers] == [410, 410, 401, 401, 401, 401]
    assert all(length < 200 for _, length in answers)


@promise("a call that somebody has seen is worth nothing without its token")
def replay_a_call(scene: Scene) -> None:
    """As the worker sends it, byte by byte; the header with the token is the one thing that was not seen."""
    code = """
body = frame({**ABOUT, "worker": "w" * 32, "want": 5, "holding": [[1, 8, 1]], "outcomes": [[1, 1, 0, 0.5]]}, b"N.", b"")
head = "POST /requests/2/exchange HTTP/1.1\\r\\nHost: %s:%d\\r\\nAccept-Encoding: identity\\r\\n%sContent-Type: " \\
    "application/x-sheepdog\\r\\nContent-Length: %d\\r\\n\\r\\n"
def replay(shown):
    wire = socket.create_connection((data["address"], data["port"]), 30)
    with ssl._create_unverified_context().wrap_socket(wire) as wire:
        wire.sendall((head % (data["address"], data["port"], shown, len(body))).encode() + body)
        return wire.recv(12).decode()
show([replay(shown) for shown in ("", "Authorization: Bearer \\r\\n", "Authorization: \\r\\n")])
"""
    assert scene.stranger("node1", code) == ["HTTP/1.1 401"] * 3
    assert scene.outcomes() == 0


@promise("there is nothing but the two calls, and no way round their names")
def try_other_paths(scene: Scene) -> None:
    code = """
def ask(method, path):
    connection = line()
    connection.request(method, path, b"" if method == "GET" else ASK)
    return connection.getresponse().status
show([ask(method, path) for method in ("GET", "PUT", "DELETE", "POST", "OPTIONS") for path in data["paths"]])
"""
    paths = ["/", "/requests", "/requests/2", "/requests/2/exchange/", "/requests/2/../3/join", "//requests/2/join"]
    paths += [
        "/requests/-2/join",
        "/requests/2%00/join",
        "/requests/99999999999999999999/join",
        "/openapi.json",
        "/docs",
    ]
    statuses = scene.stranger("node2", code, paths=paths)
    assert set(statuses) <= {307, 400, 401, 404, 405}


# --- listen


@promise("nothing is said in a version of TLS that can be broken")
def speak_an_old_tls(scene: Scene) -> None:
    code = """
import warnings
warnings.simplefilter("ignore")
def shake(version):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    try:
        with context.wrap_socket(socket.create_connection((data["address"], data["port"]), 30)) as wire:
            return wire.version()
    except OSError as error:
        return getattr(error, "reason", None) or type(error).__name__
show([shake(version) for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2)])
"""
    old, older, new = scene.stranger("node1", code)
    # The server hangs up; that this client could not offer it would be NO_PROTOCOLS_AVAILABLE.
    assert {old, older} <= {
        "TLSV1_ALERT_PROTOCOL_VERSION",
        "UNEXPECTED_EOF_WHILE_READING",
        "ConnectionResetError",
        "SSLEOFError",  # in the words of Python 3.11.2
    }
    assert new == "TLSv1.2"


@promise("a server without TLS hears of no request")
def speak_without_tls(scene: Scene) -> None:
    code = """
with socket.create_connection((data["address"], data["port"]), 30) as wire:
    wire.sendall(b"POST /requests/2/join HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 0\\r\\n\\r\\n")
    show(wire.recv(100).hex())
"""
    assert b"HTTP" not in bytes.fromhex(scene.stranger("node1", code))


@promise("a man in the middle with another certificate hears nothing: the worker hangs up first")
def stand_in_the_middle(scene: Scene) -> None:
    middle, port = scene.listener("head", "other", PYTHON, 0, 4)
    code = """
import glob, json, os, shutil, sys
[secret] = glob.glob(os.path.expanduser("~/.sheepdog/%s/**/secret.json" % sys.argv[1]), recursive=True)
shutil.copytree(os.path.dirname(secret), os.path.expanduser("~/copy"))
secret = os.path.expanduser("~/copy/secret.json")
with open(secret) as file: content = json.load(file)
content.update(urls=["https://head:" + sys.argv[2]], patience=4)
with open(secret, "w") as file: json.dump(content, file)
"""
    cluster = scene.user.cluster
    cluster.on("node1", [PYTHON, "-c", code, scene.directory.name, str(port)], user="sheep")
    worker = cluster.on("node1", ["sh", "-c", f"{PYTHON} ~/copy/client.pyz ~/copy 1"], user="sheep", check=False)
    assert "its certificate is not the server's" in worker.stdout, worker.stdout
    assert worker.returncode == 1
    assert_nothing_heard(scene, middle)


def assert_nothing_heard(scene: Scene, listener: Program) -> None:
    shaken, refused, heard = json.loads(listener.communicate(timeout=60)[0])
    assert shaken == 0
    assert any("UNKNOWN_CA" in reason or "CERTIFICATE" in reason for reason in refused)
    assert not [needle for needle in scene.needles() if needle in heard]
    assert b"requests" not in bytes.fromhex(heard)


@promise("whoever takes a dead server's port sees no token, and the workers wait for the true one")
def squat_on_a_dead_server_s_port(scene: Scene) -> None:
    scene.user.run("os.kill(sheepdog.Server(dbfile=DB).pid, 9)")
    squatter, _ = scene.listener("outside", "daemon", "/usr/bin/python3", scene.port, 8)
    assert_nothing_heard(scene, squatter)
    scene.user.run("sheepdog.Server(dbfile=DB).start()")


# --- disturb


@promise("the scheduler lets nobody else touch the job")
def command_the_job(scene: Scene) -> None:
    commands = [
        "qdel",
        "qmod -sj",
        "qmod -cj",
        "qmod -rj",
        "qalter -p -100",
        "qalter -N wolf",
        "qhold",
        "qrls",
    ]
    commands += ["qalter -l h_rt=1", "qalter -o /tmp/", "qalter -h u", "qresub"]
    code = """
def command(words):
    done = subprocess.run(words.split() + [data["job"]], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.stdout.decode()
show([command(words) for words in data["commands"]])
"""
    before = scene.user.sh("head", f"qstat -j {scene.job} | grep -v usage")
    for words, said in zip(commands, scene.stranger("head", code, job=scene.job, commands=commands), strict=True):
        assert re.search("denied|rejected|no permission|do not have the necessary privileges", said), (words, said)
    assert scene.user.sh("head", f"qstat -j {scene.job} | grep -v usage") == before
    scene.user.sh("head", "qdel -u other", "other")
    assert scene.running() == 8


@promise("nobody else can signal a worker or the task it runs")
def signal_a_worker(scene: Scene) -> None:
    code = """names = ["SIGTERM", "SIGKILL", "SIGSTOP", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGINT", "SIGHUP"]
show([attempt(kill, pid, getattr(signal, name))
      for pid in data["pids"] for name in names for kill in (os.kill, os.killpg)])"""
    assert set(scene.stranger("node1", code, pids=scene.pids("node1"))) <= {"PermissionError", "ProcessLookupError"}
    assert "PermissionError" in scene.stranger("node1", code, pids=scene.pids("node1"))


@promise("nobody else can put a file where the worker, the server or the scheduler looks for one")
def plant_files(scene: Scene) -> None:
    here = f"/home/sheep/.sheepdog/{scene.directory.name}"
    names = ["secret.json", "client.pyz", "spool/1", "job_id", "submit.sh", "cloudpickle.zip", "json.py", "x"]
    places = [*(f"{here}/{name}" for name in names), "/home/sheep/.sheepdog/x", "/home/sheep/x"]
    code = """places = data["places"] + glob.glob("/var/spool/gridengine/*")
places += glob.glob("/var/spool/gridengine/execd/*/*")
places += glob.glob("/tmp/*.all.q")
show([attempt(f, *args) for place in places for f, args in [
    (write, [place]), (write, [place + "/x"]), (os.symlink, ["/etc/passwd", place + "/link"]),
    (os.mkdir, [place + "/d"]), (os.rename, [place, place + ".old"])]])"""
    for host in HOSTS:
        answers = set(scene.stranger(host, code, places=places))
        assert "PermissionError" in answers
        assert answers <= {"PermissionError", "IsADirectoryError", "NotADirectoryError", "FileNotFoundError"}, host


@promise("what others put into /tmp beforehand is not used, and harms no submission")
def lie_in_wait_in_tmp(scene: Scene) -> None:
    code = """
for name in ("sheepdog", ".sheepdog", "sheepdog-7001", "client.pyz", "secret.json", "cloudpickle.zip", "json.py"):
    path = "/tmp/" + name
    if name.endswith((".py", ".pyz")):
        with open(path, "w") as file: file.write("open('/tmp/wolf-was-here', 'w')")
    elif not os.path.lexists(path):
        os.symlink("/home/other", path)
show(os.path.exists("/tmp/wolf-was-here"))
"""
    for host in HOSTS:
        scene.stranger(host, code)
    ssh_dir = "{**C, 'ssh_dir': '/tmp', 'scheduler': 'local', 'localhost': socket.gethostbyname('outside')}"
    assert scene.user.run(f"import socket; show(sheepdog.map(f, [(1, 2)], {ssh_dir}))") == [3]
    for host in HOSTS:
        assert scene.stranger(host, code) is False


@promise("files are put into no directory in which others could put theirs in their place")
def offer_a_directory(scene: Scene) -> None:
    code = """
os.umask(0)
os.makedirs("/tmp/wolf/open", 0o777, exist_ok=True)
os.chmod("/tmp/wolf", 0o777)
for path, target in (("/tmp/wolf-link", "/tmp/wolf"), ("/tmp/wolf-home", "/home/sheep/private")):
    if not os.path.lexists(path):
        os.symlink(target, path)
show(0)
"""
    scene.stranger("head", code)
    scene.user.sh("head", "umask 0; mkdir -p ~/private /tmp/mine/.sheepdog; chmod 777 /tmp/mine; chmod 700 ~/private")
    refusals = {
        "/tmp/wolf": "/tmp/wolf belongs to another user (7002)",
        "/tmp/wolf/open/x": "/tmp/wolf belongs to another user (7002)",
        "/tmp/wolf-link": "/tmp/wolf-link is a link",
        "/tmp/wolf-link/open": "/tmp/wolf-link belongs to another user (7002)",
        "/tmp/wolf-home/x": "/tmp/wolf-home belongs to another user (7002)",
        "/tmp/mine": "/tmp/mine can be changed by others (drwxrwxrwx): chmod go-w it",
        "/tmp/mine/.sheepdog": "/tmp/mine can be changed by others (drwxrwxrwx): chmod go-w it",
    }
    said = scene.user.run(f"""
        from sheepdog.errors import SchedulerError
        def refusal(place):
            try: sheepdog.map(f, [(1, 1)], {{**C, "ssh_dir": place}})
            except SchedulerError as error: return str(error)
        show([refusal(place) for place in {list(refusals)!r}])
    """)
    for (place, words), text in zip(refusals.items(), said, strict=True):
        assert words in text, place
        assert "or set ssh_dir to a directory of your own" in text
    assert scene.user.sh("head", "find /tmp/wolf /tmp/mine ~/private -user sheep -name 'secret*'") == ""


@promise("two hundred silent connections keep no worker waiting")
def hold_the_door(scene: Scene) -> None:
    code = """
idle = [socket.create_connection((data["address"], data["port"]), 30) for _ in range(100)]
context = ssl._create_unverified_context()
idle += [context.wrap_socket(socket.create_connection((data["address"], data["port"]), 30)) for _ in range(50)]
for wire in [context.wrap_socket(socket.create_connection((data["address"], data["port"]), 30)) for _ in range(50)]:
    wire.sendall(b"POST /requests/2/exchange HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 900000000\\r\\n")
    idle.append(wire)
begun = time.monotonic()
status = call("exchange", ASK, "Bearer " + data["token"])[0]
show([len(idle), status, time.monotonic() - begun])
"""
    count, status, seconds = scene.stranger("node2", code, token=scene.token)
    assert (count, status) == (200, 200)
    assert seconds < 10


@pytest.mark.parametrize(("attempt", "promised"), ATTEMPTS)
@fault(
    (19, 21, 51),
    "another user of the cluster reads, forges, replays and disturbs, in over twenty ways",
    promise="nothing is read, nothing forged; the workers work on",
)
def test_a_stranger_gets_nowhere(scene: Scene, attempt: Callable[[Scene], None], promised: str) -> None:
    attempt(scene)
    assert scene.running() == 8, promised


def test_at_the_end_all_is_right(scene: Scene) -> None:
    """No worker was lost, no outcome forged, and the request ends as if nobody had been there."""
    (scene.home / "go").touch()
    code = "show([[r for _, r in sheepdog.get_results(2, DB)], errors(2)])"
    results, errors = scene.user.run(code)
    assert results == [[i, scene.wool] for i in range(8)]
    assert errors == []
