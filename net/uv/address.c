/* Addresses as texts: "host:port" and "[v6]:port". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/uv/internal.h"

static bool port_is_valid(const char *port)
{
    size_t digits = strspn(port, "0123456789");
    return digits > 0 && digits <= 5 && port[digits] == '\0' && strtol(port, NULL, 10) <= 65535;
}

int address_split(const char *text, char host[ADDRESS_TEXT_MAX], char port[8])
{
    const char *colon = strrchr(text, ':');
    if (colon == NULL || strlen(text) >= ADDRESS_TEXT_MAX || !port_is_valid(colon + 1)) return ERR_USAGE;
    size_t length = (size_t)(colon - text);
    if (text[0] == '[') {
        if (length < 3 || text[length - 1] != ']') return ERR_USAGE;
        text++;
        length -= 2;
    } else if (memchr(text, ':', length) != NULL) {
        return ERR_USAGE; /* IPv6 without brackets: where would the port begin? */
    }
    if (length == 0) return ERR_USAGE;
    for (size_t i = 0; i < length; i++)
        if (text[i] <= ' ' || text[i] > '~' || text[i] == '[' || text[i] == ']') return ERR_USAGE;
    memcpy(host, text, length);
    host[length] = '\0';
    snprintf(port, 8, "%s", colon + 1);
    return 0;
}

bool address_from_numbers(const char *host, const char *port, struct sockaddr_storage *out)
{
    int number = (int)strtol(port, NULL, 10);
    memset(out, 0, sizeof *out);
    return uv_ip4_addr(host, number, (struct sockaddr_in *)out) == 0 ||
           uv_ip6_addr(host, number, (struct sockaddr_in6 *)out) == 0;
}

void address_print(const struct sockaddr *address, bool with_port, char out[ADDRESS_TEXT_MAX])
{
    char host[INET6_ADDRSTRLEN + 1] = "?";
    unsigned port = 0;
    bool brackets = false;
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;
        uv_ip4_name(v4, host, sizeof host);
        port = ntohs(v4->sin_port);
    } else if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;
        uv_ip6_name(v6, host, sizeof host);
        port = ntohs(v6->sin6_port);
        brackets = true;
        if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr)) {
            memmove(host, strrchr(host, ':') + 1, strlen(strrchr(host, ':')));
            brackets = false;
        }
    }
    const char *open = brackets ? "[" : "", *shut = brackets ? "]" : "";
    if (with_port)
        snprintf(out, ADDRESS_TEXT_MAX, "%s%s%s:%u", open, host, shut, port);
    else
        snprintf(out, ADDRESS_TEXT_MAX, "%s%s%s", open, host, shut);
}

uint16_t address_port(const struct sockaddr_storage *a)
{
    if (a->ss_family == AF_INET) return ntohs(((const struct sockaddr_in *)a)->sin_port);
    return ntohs(((const struct sockaddr_in6 *)a)->sin6_port);
}

bool address_equal(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
    if (a->ss_family != b->ss_family || address_port(a) != address_port(b)) return false;
    if (a->ss_family == AF_INET)
        return ((const struct sockaddr_in *)a)->sin_addr.s_addr ==
               ((const struct sockaddr_in *)b)->sin_addr.s_addr;
    const struct sockaddr_in6 *x = (const struct sockaddr_in6 *)a, *y = (const struct sockaddr_in6 *)b;
    return memcmp(&x->sin6_addr, &y->sin6_addr, sizeof x->sin6_addr) == 0 &&
           x->sin6_scope_id == y->sin6_scope_id;
}
