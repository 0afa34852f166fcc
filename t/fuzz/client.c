/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "client.h"

#include <stdlib.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <apr_atomic.h>

#include <httpd.h>
#include <http_config.h>
#include <http_connection.h>

static apr_uint32_t connections; /* that httpd has */

static apr_status_t count_end(void *unused UNUSED)
{
    apr_atomic_dec32(&connections);
    return APR_SUCCESS;
}

static int count(conn_rec *c, void *csd UNUSED)
{
    if (!c->master) {
        apr_atomic_inc32(&connections);
        apr_pool_cleanup_register(c->pool, NULL, count_end,
                                  apr_pool_cleanup_null);
    }
    return OK;
}

void client_register_hooks(void)
{
    ap_hook_pre_connection(count, NULL, NULL, APR_HOOK_FIRST);
}

int client_join(const char *port)
{
    struct sockaddr_in address = { 0 };
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t)atoi(getenv(port)));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    FUZZ_CHECK(fd >= 0);
    FUZZ_CHECK(!connect(fd, (struct sockaddr *)&address, sizeof(address)));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return fd;
}

void client_greet(int fd)
{
    send(fd, CLIENT_PREFACE CLIENT_NO_SETTINGS,
         sizeof(CLIENT_PREFACE) + sizeof(CLIENT_NO_SETTINGS) - 2,
         MSG_NOSIGNAL);
}

void client_await_end(void)
{
    int ms;

    for (ms = 0; apr_atomic_read32(&connections); ++ms) {
        FUZZ_CHECK(ms < CLIENT_PATIENCE_MS);
        apr_sleep(1000);
    }
}
