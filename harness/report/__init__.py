"""The sign-off: runs of several devices and hosts merged into one decision and one page."""
