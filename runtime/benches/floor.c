/* The least that a server could do: the touching loop.
 *
 *   cc -O2 -o floor floor.c
 *   floor PORT KEYS VALUE_BYTES [ahead]
 *
 * An epoll loop with one read and one write for each connection that is ready. It parses nothing: all requests of a kind
 * have the same length, so they are counted, and the key is where it always is. Each key is hashed, its record is found
 * and its value copied in or out. With `ahead` that is done for a whole read at once: first all lines of memory are asked
 * for, then the work is done. No limits, no versions, no replication, no expiry: with a client that is not `simple-kv
 * bench` it does not work.
 *
 * Requests are SET and GET of the Redis protocol, or lines of text, with keys of 16 bytes.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { KEY = 16, READ = 1 << 16, EVENTS = 256 };

struct conn {
    int fd;
    size_t have;
    char in[READ];
};

/* Where things are in a request of one kind, and in its reply. */
struct shape {
    size_t request, key, value;         /* bytes of a request; where its key and, in a SET, its value begin */
    size_t reply, head;                 /* bytes of a reply, and of those before the value */
    char *replies;                      /* as many as one read can ask for */
};

static uint32_t *places;                /* by hash: the number of a record, counted from 1 */
static char *records;                   /* key, value */
static uint64_t mask, used, most;
static size_t value_bytes, record_bytes;
static int asks_ahead;

static uint64_t hash_of(const char *key)
{
    uint64_t a, b;
    memcpy(&a, key, 8);
    memcpy(&b, key + 8, 8);
    unsigned __int128 product = (unsigned __int128)(a ^ 0x9e3779b97f4a7c15u) * (b ^ 0xc4ceb9fe1a85ec53u);
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static char *find(const char *key, uint64_t hash, int insert)
{
    for (;; hash++) {
        uint32_t *place = &places[hash & mask];
        if (!*place) {
            if (!insert || used == most)
                return NULL;
            *place = ++used;
            memcpy(records + (used - 1) * record_bytes, key, KEY);
        }
        char *record = records + (*place - 1) * record_bytes;
        if (!memcmp(record, key, KEY))
            return record + KEY;
    }
}

static void prepare(struct shape *shape, int is_set, int is_line)
{
    char digits[24], head[32];
    size_t length = sprintf(digits, "%zu", value_bytes);
    size_t end = is_line ? 1 : 2;
    shape->key = is_line ? 4 : 18;      /* "GET " or "*2\r\n$3\r\nGET\r\n$16\r\n" */
    shape->value = shape->key + KEY + (is_line ? 1 : 2 + 1 + length + 2);
    shape->request = is_set ? shape->value + value_bytes + end : shape->key + KEY + end;
    if (is_set)
        shape->head = sprintf(head, is_line ? "OK\n" : "+OK\r\n");
    else
        shape->head = is_line ? 0 : sprintf(head, "$%zu\r\n", value_bytes);
    shape->reply = shape->head + (is_set ? 0 : value_bytes + end);
    size_t count = READ / shape->request + 1;
    shape->replies = malloc(count * shape->reply);
    for (size_t i = 0; i < count; i++) {
        char *reply = shape->replies + i * shape->reply;
        memcpy(reply, head, shape->head);
        if (!is_set) {
            memset(reply + shape->head, 'x', value_bytes);
            memcpy(reply + shape->reply - end, is_line ? "\n" : "\r\n", end);
        }
    }
}

/* Serves what is in the buffer of a connection; false if it is to be closed. */
static int serve(struct conn *conn, struct shape shapes[2][2])
{
    static uint64_t hashes[READ / KEY];
    ssize_t got = recv(conn->fd, conn->in + conn->have, READ - conn->have, 0);
    if (got <= 0)
        return got < 0 && errno == EAGAIN;
    conn->have += got;
    int is_line = conn->in[0] != '*', is_set = conn->in[is_line ? 0 : 1] == (is_line ? 'S' : '3');
    struct shape *shape = &shapes[is_line][is_set];
    size_t count = conn->have / shape->request;
    for (size_t i = 0; asks_ahead && i < count; i++) {
        hashes[i] = hash_of(conn->in + i * shape->request + shape->key);
        __builtin_prefetch(&places[hashes[i] & mask]);
    }
    for (size_t i = 0; asks_ahead && i < count; i++) {
        uint32_t number = places[hashes[i] & mask];
        if (number) {
            __builtin_prefetch(records + (number - 1) * record_bytes);
            __builtin_prefetch(records + number * record_bytes - 1);
        }
    }
    for (size_t i = 0; i < count; i++) {
        char *request = conn->in + i * shape->request, *key = request + shape->key;
        char *value = find(key, asks_ahead ? hashes[i] : hash_of(key), is_set);
        if (value && is_set)
            memcpy(value, request + shape->value, value_bytes);
        else if (value)
            memcpy(shape->replies + i * shape->reply + shape->head, value, value_bytes);
    }
    conn->have -= count * shape->request;
    memmove(conn->in, conn->in + count * shape->request, conn->have);
    for (size_t sent = 0, all = count * shape->reply; sent < all;) {
        ssize_t now = send(conn->fd, shape->replies + sent, all - sent, MSG_NOSIGNAL);
        if (now < 0 && errno != EAGAIN)
            return 0;
        sent += now < 0 ? 0 : now;
    }
    return 1;
}

int main(int argc, char **argv)
{
    asks_ahead = argc == 5 && !strcmp(argv[4], "ahead");
    if (argc != 4 + asks_ahead) {
        fprintf(stderr, "usage: floor PORT KEYS VALUE_BYTES [ahead]\n");
        return 2;
    }
    most = strtoull(argv[2], NULL, 10);
    value_bytes = strtoull(argv[3], NULL, 10);
    record_bytes = KEY + value_bytes;
    uint64_t count = 1;
    while (count < 2 * most)
        count <<= 1;
    mask = count - 1;
    places = calloc(count, sizeof *places);
    records = calloc(most, record_bytes);
    struct shape shapes[2][2];
    for (int i = 0; i < 4; i++)
        prepare(&shapes[i / 2][i % 2], i % 2, i / 2);

    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), epoll = epoll_create1(0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (!places || !records || bind(listener, (void *)&address, sizeof address) || listen(listener, 511)) {
        perror("floor");
        return 1;
    }
    struct epoll_event event = {.events = EPOLLIN}, events[EVENTS];
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int ready = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            struct conn *conn = events[i].data.ptr;
            if (conn) {
                if (!serve(conn, shapes)) {
                    close(conn->fd);
                    free(conn);
                }
                continue;
            }
            int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
            if (fd < 0)
                continue;
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            conn = calloc(1, sizeof *conn);
            conn->fd = fd;
            event.data.ptr = conn;
            epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
        }
    }
}
