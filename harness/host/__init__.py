"""The operating system: site, environment, locks, child processes, artifact store, progress."""
