"""The rule workshop: what an author of rules asks of them. `qegraph rules new, list, check, coverage, ablate`."""
