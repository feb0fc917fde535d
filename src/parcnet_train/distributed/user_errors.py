"""Errors of users at the front of a command: one line each on stderr, exit code 2."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

from parcnet_train.distributed.processes import place
from parcnet_train.errors import UserError, print_error

FIRST_WORD = 3.0  # seconds in which one process can report what others then trip over


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Turns what a user can mend into lines on stderr and exit code 2, Ctrl-C into 130.

    Of several processes, one speaks: what the others find, the first may have found too, and what
    is no fault of the user's may be that another process is gone. Whatever started them ends them
    while they wait.
    """
    here = place()
    try:
        yield
    except UserError as error:
        if here.rank > 0:
            time.sleep(FIRST_WORD)
        print_error(error)
        sys.exit(2)
    except KeyboardInterrupt:
        if here.rank == 0:
            print("interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception:
        if here.world_size > 1:
            time.sleep(2 * FIRST_WORD if here.rank == 0 else 3 * FIRST_WORD)
        raise
