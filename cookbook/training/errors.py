"""The one error of saving and resuming, and what its message owes the reader.

It does not handle anything; `cookbook run` prints the message alone, without a traceback. Used
by every file of this wing that writes or reads a checkpoint; chapter 03 shows it.
"""


class CheckpointError(OSError):
    """A checkpoint that cannot be written or must not be read; one line, what to do included.

    >>> str(CheckpointError("checkpoint-4 is a file, not a folder: move it away"))
    'checkpoint-4 is a file, not a folder: move it away'
    """
