"""Parts of a real cluster fail: nodes, the master, the net, a port."""

from tests.faults import fault
from tests.on_cluster.programs import log_of, ran_so_far, run, shown, start
from tests.user import User
from tests.waiting import until


@fault(
    (7, "node down"),
    "a node loses its power",
    promise="its tasks run on another one, though the scheduler lists it as running",
)
def test_a_node_is_lost(user: User) -> None:
    code = """
        C.update(workers=8, lease=8)
        sheepdog.map_async(note, [(i, 4) for i in range(40)], C)
        show([results(), errors(), attempts()])
    """
    client = start(user, code)
    until(lambda: {node for _, _, node in ran_so_far(user)} == {"node1", "node2"}, "both nodes work", timeout=60)
    user.cluster.kill("node2")
    try:
        found = shown(client)
    finally:
        user.cluster.boot("node2")
    results, errors, attempts = found
    assert (results, errors) == ([i * i for i in range(40)], [])
    assert {kind for _, _, kind, _ in attempts} == {"LOST"}
    assert len(ran_so_far(user)) <= 40 + len(attempts)


@fault(8, "only the scheduler's daemon on a node dies", promise="nothing is noticed; the results come")
def test_a_node_s_daemon_is_killed(user: User) -> None:
    code = """
        C.update(workers=8)
        sheepdog.map_async(note, [(i, 1) for i in range(40)], C)
        show([results(), errors(), attempts(), arrays()])
    """
    client = start(user, code)
    until(lambda: len(ran_so_far(user)) >= 8, "tasks run", timeout=60)
    user.sh("node2", "kill -9 $(pidof sge_execd)", user="root")
    try:
        found = shown(client)
    finally:
        user.cluster.kill("node2")
        user.cluster.boot("node2")
    results, errors, attempts, _ = found
    assert (results, errors, attempts) == ([i * i for i in range(40)], [], [])


@fault(
    (42, "qmaster down"),
    "the master is down for a while",
    promise="running work is not affected; then all is as before",
)
def test_the_master_is_down(user: User) -> None:
    code = """
        C.update(workers=4)
        sheepdog.map_async(note, [(i, 1) for i in range(40)], C)
        show([results(), errors(), attempts(), arrays()])
    """
    client = start(user, code)
    until(lambda: len(ran_so_far(user)) >= 4, "tasks run", timeout=60)
    user.sh("head", "kill -9 $(pidof sge_qmaster)", user="root")
    try:
        found = shown(client)
    finally:
        user.sh("head", ". /etc/default/gridengine 2>/dev/null; sge_qmaster", user="root")
    assert found == [[i * i for i in range(40)], [], [], 1]
    assert "unable to send message to qmaster" in log_of(user) or "got select error" in log_of(user)


@fault(10, "a link is cut for longer than the lease", promise="the first outcome stays; the other twin is told to stop")
def test_a_link_is_cut_for_long(user: User) -> None:
    code = """
        C.update(workers=8, lease=5)
        sheepdog.map_async(note, [(i, 6) for i in range(8)], C)
        show([results(), errors(), attempts()])
    """
    client = start(user, code)
    until(lambda: len(ran_so_far(user)) >= 8, "all run", timeout=60)
    user.cluster.cut("node2")
    until(lambda: "is lost" in log_of(user), "its workers are lost")
    user.cluster.mend("node2")
    found = shown(client)
    results, errors, attempts = found
    assert (results, errors) == ([i * i for i in range(8)], [])
    assert attempts
    assert len(ran_so_far(user)) <= 8 + len(attempts)


@fault(
    ("port taken", 19), "the server's port is taken when it starts again", promise="its workers are told the new one"
)
def test_the_port_is_taken(user: User) -> None:
    code = """
        import socket
        C.update(workers=2, lease=8)
        sheepdog.map_async(note, [(i, 1) for i in range(30)], C)
        until(lambda: qstat().count(" r ") == 2)
        server = sheepdog.Server(dbfile=DB)
        before = server.port
        os.kill(server.pid, 9)
        while True:
            try: squatter = socket.create_server(("", before)); break
            except OSError: time.sleep(0.01)
        server.start()
        show([results(), errors(), server.port != before])
    """
    results, errors, moved = run(user, code)
    assert (results, errors, moved) == ([i * i for i in range(30)], [], True)
