"""Records and the contract to problems, waivers, exit status and speeds; no hardware."""
