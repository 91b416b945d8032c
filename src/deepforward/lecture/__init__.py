"""The lecture's claims, one a file, as experiments that are measured, checked and drawn."""
