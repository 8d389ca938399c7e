"""The devices that models run on: one file per device, found by its file name.

Each file defines SPEC, which works without the device's software, and ``device()``, which
imports that software.
"""
