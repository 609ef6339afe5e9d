"""The errors wsolkern raises on purpose, beside ValueError and TypeError for wrong arguments."""


class BackendUnavailable(RuntimeError):
    """A backend asked for by name cannot run here; the message says what is missing."""


class DatasetError(ValueError):
    """Files of a data set do not hold together; the message names file and line of the first few problems."""
