"""The doctor's bench: healthy scripts, faults as one-line changes to them, and who finds what."""
