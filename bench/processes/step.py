"""Calls the function of a rule's step in a process of its own, and prints the process's peak resident memory in KiB.

Usage: step.py STEP < ARGUMENTS, as JSON.
"""

import json
import sys

import measuring

if __name__ == "__main__":
    measuring.call(sys.argv[1], **json.load(sys.stdin))
    # not `ru_maxrss`, which starts from the peak of the process that started this one
    with open("/proc/self/status") as status:
        print(status.read().partition("VmHWM:")[2].split()[0])
