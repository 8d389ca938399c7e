"""Where models run: one file a device, found by its name.

Each file defines SPEC, which is known without the device's software, and ``device()``, which
imports that software.
"""
