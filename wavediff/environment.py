"""How threads wait for each other: said before torch is loaded, because OpenMP's library reads it once.

Threads of OpenMP wait by spinning. Where other programs need the same cores, that takes the time from them and from the
thread that is waited for: two threads took 3.8 times the CPU time of one beside six busy programs, and 1.1 times with
this number of turns, which are microseconds. On quiet cores nothing is lost (recipes/settings.md).
"""

import os

SPINS = 1_000
_OWN = {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}  # whoever sets one of them has chosen

if not _OWN & os.environ.keys():
    os.environ["GOMP_SPINCOUNT"] = str(SPINS)
