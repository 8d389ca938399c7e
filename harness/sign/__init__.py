"""Signing a run or a release, and proving it later on another machine, without models or devices.

A statement lists the digest of every file and of every judged artifact, and is signed offline;
verifying it checks the signature, the digests, and that the verdicts follow from the raw files.
"""
