"""Handling of user errors in a command: one line each on stderr, exit code 2."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

from parcnet_train.distributed.processes import place
from parcnet_train.errors import ProcessError, UserError, print_error

FIRST_WORD = 3.0  # seconds; time for one process to report an error that others run into


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Turn errors that users can fix into lines on stderr and exit code 2, Ctrl-C into code 130.

    If there are several processes, only one should report. The others wait, since rank 0 may have
    found the same error, and an unexpected exception may only mean that another process is gone.
    The launcher ends them while they wait.
    """
    here = place()
    try:
        yield
    except ProcessError as error:
        sys.exit(error.code)
    except UserError as error:
        if here.rank > 0:
            time.sleep(FIRST_WORD)
        with contextlib.suppress(OSError):  # the output of a job may be a file on a full disk
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
