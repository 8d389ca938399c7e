"""CANN, atc, npu-smi and ais_bench; no other folder names one of these tools."""
