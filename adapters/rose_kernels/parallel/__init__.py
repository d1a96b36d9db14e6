"""A step divide into tasks for several threads: tables, schedule, tasks, worker, threads and plan."""
