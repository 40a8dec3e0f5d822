"""The one error that bad data raises, and what its message owes the reader.

It does not handle anything; `cookbook run` and `cookbook data` print the message alone,
without a traceback. Used by every file of this wing; chapter 01 shows it.
"""


class DataError(ValueError):
    """Data that cannot be used as asked; the message is one line: what was found, what to do.

    >>> str(DataError("reviews.csv has no rows: check the export"))
    'reviews.csv has no rows: check the export'
    """
