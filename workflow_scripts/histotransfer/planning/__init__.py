"""What a study takes: memory, time, disk and jobs, before it runs."""
