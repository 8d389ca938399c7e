"""A farm of hosts, driven over Ray: hosts measure, the driver judges. A single machine never imports it."""
