"""Every documented name can be imported: those of 0.2 that are not said to be gone, and those of later docs.

A name is added here when it is documented, and leaves when docs/coming-from-0.2.rst, or the changelog, says that it is
gone.
"""

import importlib
import re
from pathlib import Path

import pytest

import sheepdog

DOCS = Path(__file__).parent.parent / "docs"

OLD = """
sheepdog.map sheepdog.map_async sheepdog.get_results sheepdog.get_errors sheepdog.storage.Storage.initdb
sheepdog.storage.Storage.new_request sheepdog.storage.Storage.get_details sheepdog.storage.Storage.store_result
sheepdog.storage.Storage.store_error sheepdog.storage.Storage.count_results sheepdog.storage.Storage.count_errors
sheepdog.storage.Storage.count_results_and_errors sheepdog.storage.Storage.count_tasks
sheepdog.storage.Storage.get_results sheepdog.storage.Storage.get_tasks_with_results
sheepdog.storage.Storage.get_errors sheepdog.server.Server.stop sheepdog.server.get_server sheepdog.job_file.job_file
sheepdog.deployment sheepdog.client sheepdog.serialisation
"""
"""Of Sheepdog 0.2, as its documentation calls them."""

SHEEPDOG = """
sheepdog.__version__ sheepdog.__version_info__ sheepdog.__author__ sheepdog.__license__
sheepdog.get_output sheepdog.pythons sheepdog.errors.NotRun
sheepdog.imap sheepdog.get_reports sheepdog.follow_reports sheepdog.cancel sheepdog.retry sheepdog.remove
sheepdog.kept sheepdog.deployment.kept.Kept.remove
sheepdog.take_over sheepdog.job_script sheepdog.dispatch_jobs sheepdog.TaskFailed sheepdog.SheepdogError sheepdog.joblib
sheepdog.flow.Results.close sheepdog.flow.Results.request_id sheepdog.Executor.submit sheepdog.Executor.shutdown
sheepdog.Executor.request_id sheepdog.Job.start sheepdog.Job.run sheepdog.Job.join sheepdog.Job.result
sheepdog.Job.is_alive sheepdog.Job.terminate sheepdog.Job.kill sheepdog.Job.close sheepdog.Job.name
sheepdog.Job.daemon sheepdog.Job.exitcode sheepdog.Job.ident sheepdog.Job.pid sheepdog.Job.request_id
sheepdog.Job.reports sheepdog.job.Job sheepdog.job.dispatch_jobs sheepdog.client.controller.Controller.report
sheepdog.client.controller.Controller.checkpoint sheepdog.client.controller.Controller.restored
sheepdog.Config.memory_bytes sheepdog.Config.memory_limit sheepdog.Config.time_seconds sheepdog.Config.walltime
sheepdog.Config.raised sheepdog.Config.gives sheepdog.Config.slurm_opt sheepdog.Config.python sheepdog.config.Config
sheepdog.config.make_config sheepdog.Storage.close sheepdog.Storage.new_request sheepdog.Server.start
sheepdog.Server.stop sheepdog.Server.running sheepdog.Server.pid sheepdog.Server.port sheepdog.deployment.Host.run
sheepdog.deployment.LocalHost sheepdog.deployment.SSHHost.close sheepdog.errors.SheepdogError
sheepdog.errors.TaskFailed sheepdog.errors.ConfigError sheepdog.errors.JobError sheepdog.errors.ServerError
sheepdog.errors.StorageError sheepdog.errors.SchedulerError sheepdog.errors.SerialisationError
sheepdog.errors.ArgumentsError sheepdog.errors.RequestNotFound sheepdog.errors.UntrustedResult sheepdog.job_file.Job
sheepdog.job_file.secret sheepdog.job_file.submit_script sheepdog.job_file.worker_files sheepdog.schedulers.Scheduler
sheepdog.schedulers.make_scheduler sheepdog.schedulers.batch.BatchSystem sheepdog.serialisation.serialise
sheepdog.serialisation.deserialise sheepdog.serialisation.serialise_function
sheepdog.serialisation.serialise_arguments sheepdog.serialisation.deserialise_arguments
"""

GRIDENGINE = """
gridengine.map gridengine.Job gridengine.JobDispatcher gridengine.functional.map gridengine.functional.partial
gridengine.JobDispatcher.dispatch gridengine.JobDispatcher.join gridengine.JobDispatcher.finished
gridengine.JobDispatcher.address gridengine.JobDispatcher.start_time gridengine.JobDispatcher.end_time
gridengine.JobDispatcher.elapsed_time gridengine.dispatch.JobDispatcher gridengine.job.Job
gridengine.schedulers.Scheduler.schedule gridengine.schedulers.Scheduler.map gridengine.schedulers.Scheduler.join
gridengine.schedulers.Scheduler.results gridengine.schedulers.Scheduler.killall gridengine.schedulers.ProcessScheduler
gridengine.schedulers.GridEngineScheduler gridengine.schedulers.SlurmScheduler gridengine.schedulers.best_available
gridengine.schedulers.TimeoutError
"""

NAMES = [name for names in (OLD, SHEEPDOG, GRIDENGINE) for name in names.split()]


def look_up(name: str) -> object:
    """Import the module that a dotted name begins with, as far as it is one; then take attribute for attribute."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_documented_name_can_be_imported(name: str) -> None:
    assert look_up(name) is not None


@pytest.mark.parametrize("name", sheepdog.__all__)
def test_a_name_of_the_front_is_the_same_wherever_it_is_imported_from(name: str) -> None:
    assert look_up(f"sheepdog.{name}") is getattr(sheepdog, name)


def test_every_name_of_the_reference_is_listed() -> None:
    named = set()
    for page in DOCS.glob("*.rst"):
        text = page.read_text()
        named |= set(re.findall(r"^\.\. auto(?:class|function):: ([\w.]+)", text, re.MULTILINE))
    assert sorted(name for name in named if not any(f"{each}.".startswith(f"{name}.") for each in NAMES)) == []
