/* Addresses as a person means them: whose they are, and who can reach them. */
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "agent/doctor/doctor.h"
#include "base/check.h"

bool doctor_split(const char *text, char host[ADDRESS_TEXT_MAX], char port[8])
{
    const char *colon = strrchr(text, ':');
    if (colon == NULL || colon == text || strlen(text) >= ADDRESS_TEXT_MAX || strlen(colon + 1) >= 8)
        return false;
    size_t from = text[0] == '[' && colon[-1] == ']' ? 1 : 0;
    size_t length = (size_t)(colon - text) - 2 * from;
    memcpy(host, text + from, length);
    host[length] = '\0';
    snprintf(port, 8, "%s", colon + 1);
    return true;
}

static void target_take(struct doctor_target *t, const struct addrinfo *a)
{
    char port[8];
    *t = (struct doctor_target){.size = a->ai_addrlen};
    memcpy(&t->address, a->ai_addr, a->ai_addrlen);
    int err = getnameinfo(a->ai_addr, a->ai_addrlen, t->host, sizeof t->host - 12, port, sizeof port,
                          NI_NUMERICHOST | NI_NUMERICSERV);
    if (err != 0) return;
    bool six = a->ai_family == AF_INET6;
    snprintf(t->text, sizeof t->text, "%s%.258s%s:%s", six ? "[" : "", t->host, six ? "]" : "", port);
}

int doctor_resolve(const char *text, bool passive, struct doctor_target *out, int max)
{
    char host[ADDRESS_TEXT_MAX], port[8];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = passive ? AI_PASSIVE : 0}, *found;
    if (!doctor_split(text, host, port)) return EAI_NONAME;
    int err = getaddrinfo(host, port, &hints, &found);
    if (err != 0) return err < 0 ? err : -err;
    int count = 0;
    for (const struct addrinfo *a = found; a != NULL && count < max; a = a->ai_next)
        if (a->ai_family == AF_INET || a->ai_family == AF_INET6) target_take(&out[count++], a);
    freeaddrinfo(found);
    return count;
}

/* -- kinds ------------------------------------------------------------------------------------- */

static enum address_kind kind_of_four(uint32_t a)
{
    if (a == 0) return ADDRESS_WILDCARD;
    if (a >> 24 == 127) return ADDRESS_LOOPBACK;
    if (a >> 16 == 0xa9fe) return ADDRESS_LINK_LOCAL;
    bool carrier = a >> 22 == 0x6440 >> 6; /* 100.64.0.0/10 */
    bool home = a >> 24 == 10 || a >> 20 == 0xac1 || a >> 16 == 0xc0a8;
    return home || carrier ? ADDRESS_PRIVATE : ADDRESS_PUBLIC;
}

static enum address_kind kind_of_six(const struct in6_addr *a)
{
    uint32_t four;
    memcpy(&four, a->s6_addr + 12, sizeof four);
    if (IN6_IS_ADDR_V4MAPPED(a)) return kind_of_four(ntohl(four));
    if (IN6_IS_ADDR_UNSPECIFIED(a)) return ADDRESS_WILDCARD;
    if (IN6_IS_ADDR_LOOPBACK(a)) return ADDRESS_LOOPBACK;
    if (IN6_IS_ADDR_LINKLOCAL(a)) return ADDRESS_LINK_LOCAL;
    return (a->s6_addr[0] & 0xfe) == 0xfc ? ADDRESS_PRIVATE : ADDRESS_PUBLIC; /* fc00::/7 */
}

enum address_kind doctor_kind(const struct sockaddr_storage *address)
{
    if (address->ss_family == AF_INET)
        return kind_of_four(ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr));
    return kind_of_six(&((const struct sockaddr_in6 *)address)->sin6_addr);
}

const char *doctor_kind_name(enum address_kind kind)
{
    switch (kind) {
    case ADDRESS_LOOPBACK:
        return "an address that every machine has for itself alone";
    case ADDRESS_LINK_LOCAL:
        return "an address of one network cable alone";
    case ADDRESS_PRIVATE:
        return "an address of a private network";
    case ADDRESS_WILDCARD:
        return "no address but all of a machine's";
    case ADDRESS_PUBLIC:
        return "a public address";
    }
    UNREACHABLE();
}

/* IPv4 as the last four bytes of its mapped form, so that both families compare. */
static void host_bytes(const struct sockaddr_storage *address, uint8_t out[16])
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (address->ss_family == AF_INET) {
        memcpy(out, mapped, sizeof mapped);
        memcpy(out + 12, &((const struct sockaddr_in *)address)->sin_addr, 4);
    } else {
        memcpy(out, &((const struct sockaddr_in6 *)address)->sin6_addr, 16);
    }
}

bool doctor_same_host(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
    uint8_t x[16], y[16];
    host_bytes(a, x);
    host_bytes(b, y);
    return memcmp(x, y, sizeof x) == 0;
}

bool doctor_is_ours(const struct sockaddr_storage *address)
{
    struct ifaddrs *all;
    if (doctor_kind(address) == ADDRESS_LOOPBACK) return true;
    if (getifaddrs(&all) != 0) return false;
    bool ours = false;
    for (const struct ifaddrs *i = all; i != NULL && !ours; i = i->ifa_next) {
        struct sockaddr_storage own = {0};
        if (i->ifa_addr == NULL) continue;
        bool four = i->ifa_addr->sa_family == AF_INET;
        if (!four && i->ifa_addr->sa_family != AF_INET6) continue;
        memcpy(&own, i->ifa_addr, four ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
        ours = doctor_same_host(&own, address);
    }
    freeifaddrs(all);
    return ours;
}
