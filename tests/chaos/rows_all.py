"""All rows: importing a module enters its rows into the table."""
import rows_clock  # noqa: F401
import rows_disk  # noqa: F401
import rows_docker  # noqa: F401
import rows_frames  # noqa: F401
import rows_host  # noqa: F401
import rows_measure  # noqa: F401
import rows_nat  # noqa: F401
import rows_network  # noqa: F401
import rows_process  # noqa: F401
import rows_restart  # noqa: F401
import rows_show  # noqa: F401
import rows_stream  # noqa: F401
import rows_token  # noqa: F401
