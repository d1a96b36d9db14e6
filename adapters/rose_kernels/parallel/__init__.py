"""One step as tasks for several threads: the tables of a plan, its schedule, its tasks, and the threads."""
