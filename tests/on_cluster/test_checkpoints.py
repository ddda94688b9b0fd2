"""Tasks that leave checkpoints, and lose their nodes or their elements of a real array job."""

import textwrap

from tests.faults import fault
from tests.on_cluster.programs import run, shown, start
from tests.user import User

SIMULATE = """
    def simulate(steps, controller):  # its first attempt stops at the middle
        import time
        begun = controller.restored(0)
        for step in range(begun, steps):
            controller.checkpoint(step + 1)
            controller.report([controller.attempt, controller.host, step])
            while controller.attempt == 1 and step == steps // 2: time.sleep(0.1)
        return begun, controller.attempt, controller.host
    def reports(): return [value for _, value in sheepdog.get_reports(1, DB)]
"""


@fault(
    (7, "node down"),
    "a node loses its power under a task that leaves checkpoints",
    promise="it goes on from the last one",
)
def test_a_node_is_lost_under_a_simulation(user: User) -> None:
    code = """
        C.update(workers=2, lease=8)
        sheepdog.map_async(simulate, [(100,)], C)
        until(lambda: [step for _, _, step in reports()][-1:] == [50])
        print("host:" + reports()[-1][1], flush=True)
        show([results(), errors(), attempts(), reports()])
    """
    client = start(user, textwrap.dedent(SIMULATE) + textwrap.dedent(code))
    assert client.stdout is not None
    node = client.stdout.readline().strip().removeprefix("host:")
    user.cluster.kill(node)
    try:
        found = shown(client)
    finally:
        user.cluster.boot(node)
    results, errors, attempts, reports = found
    other = {"node1": "node2", "node2": "node1"}[node]
    assert (results, errors) == ([[51, 2, other]], [])
    assert [kind for _, _, kind, _ in attempts] == ["LOST"]
    assert reports == [*([1, node, step] for step in range(51)), *([2, other, step] for step in range(51, 100))]


@fault((36, "qdel one"), "qdel of the element whose task leaves checkpoints", promise="it goes on from the last one")
def test_the_element_of_a_simulation_is_deleted(user: User) -> None:
    code = """
        C.update(workers=2)
        sheepdog.map_async(simulate, [(100,), (0,)], C)
        until(lambda: [step for _, _, step in reports()][-1:] == [50])
        def elements():
            with Storage(DB) as storage: return [worker.element for worker in storage.workers(1) if worker.task == 1]
        until(elements)
        head("qdel", job(), "-t", *elements())
        show([results()[:1], errors(), [step for _, _, step in reports()]])
    """
    results, errors, steps = run(user, textwrap.dedent(SIMULATE) + textwrap.dedent(code), 240)
    [[begun, attempt, _]] = results
    assert (begun, attempt, errors) == (51, 2, [])
    assert steps == list(range(100))
