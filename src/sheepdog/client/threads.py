"""The sizes of thread pools: numerical libraries would take all cores of a node, which has other workers."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

POOLS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
"""The variables in which libraries look for the number of their threads."""

GIVEN = ("NSLOTS", "SLURM_CPUS_PER_TASK", "NCPUS", "PBS_NP")
"""Those in which schedulers say how many cores a job has: Grid Engine, Slurm, two kinds of PBS."""


def pool_sizes(cpus: int) -> "dict[str, str]":
    """Return the variables that make each pool so large."""
    return dict.fromkeys(POOLS, str(cpus))


def cpus_of(environ: "Mapping[str, str]") -> int:
    """Return how many cores the scheduler has given this worker, 1 if it says nothing."""
    for name in GIVEN:
        if environ.get(name, "").isdigit():
            return max(1, int(environ[name]))
    return 1
