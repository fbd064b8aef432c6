"""All rows: importing a module enters its rows into the table."""
import rows_network  # noqa: F401
import rows_process  # noqa: F401
import rows_stream  # noqa: F401
