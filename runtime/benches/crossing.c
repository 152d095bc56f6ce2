/* What crossing between threads that own slots costs: floor.c on one thread, and on several.
 *
 *   cc -O2 -pthread -o crossing crossing.c
 *   crossing PORT KEYS VALUE_BYTES THREADS
 *
 * Each thread is an epoll loop with connections of its own and the records whose hashes are its own, without a lock.
 * What a read asks for of another thread's records goes there as one message, however many requests that is, and comes
 * back as one; a thread that sleeps is woken by an eventfd. Nothing cheaper is possible: a message is a pointer, the other
 * thread reads the requests and writes the replies where they are. So what an operation takes here of all threads
 * together, above what it takes with one, is the least that a node would pay for having threads.
 *
 * Only for `simple-kv bench`, as floor.c; Redis protocol, keys of 16 bytes.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { KEY = 16, READ = 1 << 16, EVENTS = 256, THREADS = 16, KEY_AT = 18 };

struct conn {
    struct conn *next;                  /* in the inbox of a thread */
    int fd, home, away;                 /* its thread; how many others have it */
    int is_set;
    size_t have, count;
    uint64_t hashes[READ / 32];
    char in[READ], out[2 * READ];
};

struct thread {
    pthread_t id;
    int epoll, wake, number;
    atomic_int sleeps;
    _Atomic(struct message *) inbox;
    uint32_t *places;
    char *records;
    uint64_t mask, used, most;
    char padding[64];
};

/* A connection, given to a thread for its part of the requests, or given back. */
struct message {
    struct message *next;
    struct conn *conn;
    int to, is_back;
};

static struct thread threads[THREADS];
static int thread_count;
static size_t value_bytes, record_bytes, value_at, request_bytes[2], reply_bytes[2], head_bytes;
static char head[32];

static uint64_t hash_of(const char *key)
{
    uint64_t a, b;
    memcpy(&a, key, 8);
    memcpy(&b, key + 8, 8);
    unsigned __int128 product = (unsigned __int128)(a ^ 0x9e3779b97f4a7c15u) * (b ^ 0xc4ceb9fe1a85ec53u);
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static int owner_of(uint64_t hash)
{
    return (hash >> 32) * thread_count >> 32;
}

static char *find(struct thread *thread, const char *key, uint64_t hash, int insert)
{
    for (;; hash++) {
        uint32_t *place = &thread->places[hash & thread->mask];
        if (!*place) {
            if (!insert || thread->used == thread->most)
                return NULL;
            *place = ++thread->used;
            memcpy(thread->records + (thread->used - 1) * record_bytes, key, KEY);
        }
        char *record = thread->records + (*place - 1) * record_bytes;
        if (!memcmp(record, key, KEY))
            return record + KEY;
    }
}

/* Serves the requests that are of this thread's records, and has their replies written where they belong. */
static void serve(struct thread *thread, struct conn *conn)
{
    size_t request = request_bytes[conn->is_set], reply = reply_bytes[conn->is_set];
    for (size_t i = 0; i < conn->count; i++)
        if (owner_of(conn->hashes[i]) == thread->number)
            __builtin_prefetch(&thread->places[conn->hashes[i] & thread->mask]);
    for (size_t i = 0; i < conn->count; i++) {
        uint32_t number = thread->places[conn->hashes[i] & thread->mask];
        if (owner_of(conn->hashes[i]) == thread->number && number) {
            __builtin_prefetch(thread->records + (number - 1) * record_bytes);
            __builtin_prefetch(thread->records + number * record_bytes - 1);
        }
    }
    for (size_t i = 0; i < conn->count; i++) {
        if (owner_of(conn->hashes[i]) != thread->number)
            continue;
        char *at = conn->in + i * request, *to = conn->out + i * reply;
        char *value = find(thread, at + KEY_AT, conn->hashes[i], conn->is_set);
        if (conn->is_set) {
            if (value)
                memcpy(value, at + value_at, value_bytes);
            memcpy(to, "+OK\r\n", 5);
        } else {
            memcpy(to, head, head_bytes);
            if (value)
                memcpy(to + head_bytes, value, value_bytes);
            memcpy(to + head_bytes + value_bytes, "\r\n", 2);
        }
    }
}

static void post(struct message *message)
{
    struct thread *to = &threads[message->to];
    message->next = atomic_load(&to->inbox);
    while (!atomic_compare_exchange_weak(&to->inbox, &message->next, message))
        ;
    if (atomic_exchange(&to->sleeps, 0)) {
        uint64_t one = 1;
        if (write(to->wake, &one, sizeof one) != sizeof one)
            abort();
    }
}

static void finish(struct conn *conn)
{
    size_t used = conn->count * request_bytes[conn->is_set];
    conn->have -= used;
    memmove(conn->in, conn->in + used, conn->have);
    for (size_t sent = 0, all = conn->count * reply_bytes[conn->is_set]; sent < all;) {
        ssize_t now = send(conn->fd, conn->out + sent, all - sent, MSG_NOSIGNAL);
        if (now < 0 && errno != EAGAIN)
            return;
        sent += now < 0 ? 0 : now;
    }
}

/* Reads, and serves what is this thread's; gives the rest away, and goes on once it is back. */
static void receive(struct thread *thread, struct conn *conn)
{
    if (conn->away)
        return;
    for (;;) {
        ssize_t got = recv(conn->fd, conn->in + conn->have, READ - conn->have, 0);
        if (got <= 0)
            return;
        int is_short = conn->have + got < READ;
        conn->have += got;
        conn->is_set = conn->in[1] == '3';
        conn->count = conn->have / request_bytes[conn->is_set];
        int wanted[THREADS] = {0};
        for (size_t i = 0; i < conn->count; i++) {
            conn->hashes[i] = hash_of(conn->in + i * request_bytes[conn->is_set] + KEY_AT);
            wanted[owner_of(conn->hashes[i])] = 1;
        }
        for (int to = 0; to < thread_count; to++)
            conn->away += wanted[to] && to != thread->number;
        for (int to = 0; to < thread_count; to++) {
            if (wanted[to] && to != thread->number) {
                struct message *message = malloc(sizeof *message);
                *message = (struct message){.conn = conn, .to = to};
                post(message);
            }
        }
        if (wanted[thread->number])
            serve(thread, conn);
        if (conn->away)
            return;
        finish(conn);
        if (is_short)
            return;
    }
}

static void take_messages(struct thread *thread)
{
    struct message *message = atomic_exchange(&thread->inbox, NULL);
    while (message) {
        struct message *next = message->next;
        struct conn *conn = message->conn;
        if (message->is_back) {
            free(message);
            if (!--conn->away) {
                finish(conn);
                receive(thread, conn);
            }
        } else {
            serve(thread, conn);
            message->to = conn->home;
            message->is_back = 1;
            post(message);
        }
        message = next;
    }
}

static void *run(void *argument)
{
    struct thread *thread = argument;
    struct epoll_event events[EVENTS];
    for (;;) {
        atomic_store(&thread->sleeps, 1);
        int must_wait = atomic_load(&thread->inbox) == NULL;
        int ready = epoll_wait(thread->epoll, events, EVENTS, must_wait ? -1 : 0);
        atomic_store(&thread->sleeps, 0);
        for (int i = 0; i < ready; i++) {
            uint64_t count;
            if (events[i].data.ptr)
                receive(thread, events[i].data.ptr);
            else if (read(thread->wake, &count, sizeof count) < 0 && errno != EAGAIN)
                abort();
        }
        take_messages(thread);
    }
}

int main(int argc, char **argv)
{
    if (argc != 5 || (thread_count = atoi(argv[4])) < 1 || thread_count > THREADS) {
        fprintf(stderr, "usage: crossing PORT KEYS VALUE_BYTES THREADS\n");
        return 2;
    }
    char digits[24];
    value_bytes = strtoull(argv[3], NULL, 10);
    value_at = KEY_AT + KEY + 2 + 1 + sprintf(digits, "%zu", value_bytes) + 2;
    record_bytes = KEY + value_bytes;
    request_bytes[0] = KEY_AT + KEY + 2;
    request_bytes[1] = value_at + value_bytes + 2;
    head_bytes = sprintf(head, "$%zu\r\n", value_bytes);
    reply_bytes[0] = head_bytes + value_bytes + 2;
    reply_bytes[1] = 5;
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (void *)&address, sizeof address) || listen(listener, 511)) {
        perror("crossing");
        return 1;
    }
    for (int i = 0; i < thread_count; i++) {
        struct thread *thread = &threads[i];
        uint64_t count = 1;
        thread->number = i;
        /* Hashes are spread well, and so are the records. */
        thread->most = strtoull(argv[2], NULL, 10) / thread_count * 11 / 10 + 1000;
        while (count < 2 * thread->most)
            count <<= 1;
        thread->mask = count - 1;
        thread->places = calloc(count, sizeof *thread->places);
        thread->records = calloc(thread->most, record_bytes);
        thread->epoll = epoll_create1(0);
        thread->wake = eventfd(0, EFD_NONBLOCK);
        struct epoll_event event = {.events = EPOLLIN};
        epoll_ctl(thread->epoll, EPOLL_CTL_ADD, thread->wake, &event);
        pthread_create(&thread->id, NULL, run, thread);
    }
    for (int next = 0;; next = (next + 1) % thread_count) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
        if (fd < 0)
            continue;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct conn *conn = calloc(1, sizeof *conn);
        conn->fd = fd;
        conn->home = next;
        struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = conn};
        epoll_ctl(threads[next].epoll, EPOLL_CTL_ADD, fd, &event);
    }
}
