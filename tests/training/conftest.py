"""The workers are programs that the tests start and kill, not modules to collect."""

collect_ignore = ["worker.py", "trainer_worker.py"]
