"""Numbers and limits -> a verdict; knows no model and no device.

A reason is one sentence for the engineer who has to act on it, with the numbers in it. Limits are
met by ``measured >= limit`` alone, so that an undefined number meets none.
"""
