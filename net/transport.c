/* Names shared by all transports. */
#include "net/transport.h"

const char *down_reason_name(enum down_reason why)
{
    switch (why) {
    case DOWN_CLOSED:
        return "closed by the peer";
    case DOWN_RESET:
        return "connection reset";
    case DOWN_SILENT:
        return "silent";
    case DOWN_PROTOCOL:
        return "protocol error";
    case DOWN_REPLACED:
        return "replaced by a newer link";
    case DOWN_LOCAL:
        return "closed here";
    }
    return "unknown reason";
}
