"""The schedulers by name: what the key `scheduler` may say, and where the class of each is."""

BATCH_SYSTEMS = {
    "gridengine": "gridengine.GridEngineScheduler",
    "slurm": "slurm.SlurmScheduler",
    "drmaa": "drmaa.DRMAAScheduler",
}
"""For each batch system its module in schedulers/, and the class there. A new one is a line here."""

SCHEDULERS = (*BATCH_SYSTEMS, "local")
LINKS = ("auto", "direct", "relay")
