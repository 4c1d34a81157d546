"""Numbers of bytes as people read them."""


def byte_size(count: float) -> str:
    """Returns a number of bytes in the largest decimal unit in which it is at least 1, such as `5.4 MB`."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= 0.9995 * size:  # three digits of anything more would read as 1000 of the smaller unit
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} bytes"
