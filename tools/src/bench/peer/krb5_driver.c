/*
 * Load for MIT krb5's KDC: PROCESSES callers, each asking again as soon as it was answered, for SPAN_MS.
 *
 *   krb5_driver as|tgs PROCESSES SPAN_MS PRINCIPAL KEYTAB SERVICE
 *
 * as:  a ticket-granting ticket with encrypted-timestamp preauthentication. From a keytab: a password would be
 *      stretched by each caller for each request, and the callers be measured instead of the KDC.
 * tgs: a ticket for SERVICE under one ticket-granting ticket; nothing is cached, so each one is asked for.
 *
 * Prints one line: COUNT ELAPSED_US P50_US P99_US. Callers are processes, since a libkrb5 context is of one
 * thread. Any failed request fails the whole run: a rate that hides refusals says nothing.
 */
#include <krb5.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MOST_PROCESSES 256
#define MOST_SPAN_MS 600000
/* Times kept of one caller; later requests are counted without. */
#define KEPT 65536

struct caller {
    uint64_t count;
    uint32_t times[KEPT];
};

static uint64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

static void must(krb5_context ctx, krb5_error_code code, const char *what) {
    if (code == 0)
        return;
    const char *text = krb5_get_error_message(ctx, code);
    fprintf(stderr, "%s: %s\n", what, text);
    _exit(1);
}

static void log_in(krb5_context ctx, krb5_principal who, krb5_keytab keytab, krb5_creds *creds) {
    memset(creds, 0, sizeof *creds);
    must(ctx, krb5_get_init_creds_keytab(ctx, creds, who, keytab, 0, NULL, NULL), "AS-REQ");
}

static void call(struct caller *own, int tgs, uint64_t span, int ready, int go, char **names) {
    krb5_context ctx;
    krb5_principal who, service;
    krb5_ccache cache;
    krb5_keytab keytab;
    krb5_creds creds;
    char byte = 0;
    if (krb5_init_context(&ctx) != 0)
        _exit(1);
    must(ctx, krb5_parse_name(ctx, names[0], &who), "principal");
    must(ctx, krb5_parse_name(ctx, names[2], &service), "service");
    must(ctx, krb5_kt_resolve(ctx, names[1], &keytab), "keytab");
    if (tgs) {
        log_in(ctx, who, keytab, &creds);
        must(ctx, krb5_cc_new_unique(ctx, "MEMORY", NULL, &cache), "cache");
        must(ctx, krb5_cc_initialize(ctx, cache, who), "cache");
        must(ctx, krb5_cc_store_cred(ctx, cache, &creds), "cache");
        krb5_free_cred_contents(ctx, &creds);
    }
    if (write(ready, &byte, 1) != 1)
        _exit(1);
    close(ready);
    /* Ends when the parent closes its side: all begin at once. */
    if (read(go, &byte, 1) != 0)
        _exit(1);
    uint64_t end = now_us() + span;
    for (;;) {
        uint64_t begun = now_us();
        if (begun >= end)
            break;
        if (tgs) {
            krb5_creds in, *out;
            memset(&in, 0, sizeof in);
            in.client = who;
            in.server = service;
            must(ctx, krb5_get_credentials(ctx, KRB5_GC_NO_STORE, cache, &in, &out), "TGS-REQ");
            krb5_free_creds(ctx, out);
        } else {
            log_in(ctx, who, keytab, &creds);
            krb5_free_cred_contents(ctx, &creds);
        }
        if (own->count < KEPT)
            own->times[own->count] = (uint32_t)(now_us() - begun);
        own->count++;
    }
    _exit(0);
}

static int by_size(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    long processes = argc == 7 ? atol(argv[2]) : 0, span = argc == 7 ? atol(argv[3]) : 0;
    int tgs = argc == 7 && strcmp(argv[1], "tgs") == 0;
    if (processes < 1 || processes > MOST_PROCESSES || span < 1 || span > MOST_SPAN_MS ||
        (!tgs && strcmp(argv[1], "as") != 0)) {
        fprintf(stderr, "usage: krb5_driver as|tgs PROCESSES SPAN_MS PRINCIPAL KEYTAB SERVICE\n");
        return 2;
    }
    size_t bytes = (size_t)processes * sizeof(struct caller);
    struct caller *all = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int ready[2], go[2];
    if (all == MAP_FAILED || pipe(ready) != 0 || pipe(go) != 0) {
        perror("krb5_driver");
        return 1;
    }
    for (long i = 0; i < processes; i++) {
        pid_t child = fork();
        if (child < 0) {
            perror("fork");
            return 1;
        }
        if (child == 0) {
            close(ready[0]);
            close(go[1]);
            call(&all[i], tgs, (uint64_t)span * 1000u, ready[1], go[0], argv + 4);
        }
    }
    close(ready[1]);
    char byte;
    for (long i = 0; i < processes; i++)
        if (read(ready[0], &byte, 1) != 1)
            return 1; /* A caller ended and has said why. */
    uint64_t started = now_us();
    close(go[1]);
    int failed = 0, status;
    while (wait(&status) > 0)
        failed |= status;
    uint64_t elapsed = now_us() - started, count = 0;
    size_t kept = 0;
    uint32_t *times = malloc((size_t)processes * KEPT * sizeof *times);
    if (failed || times == NULL)
        return 1;
    for (long i = 0; i < processes; i++) {
        size_t own = all[i].count < KEPT ? all[i].count : KEPT;
        memcpy(times + kept, all[i].times, own * sizeof *times);
        kept += own;
        count += all[i].count;
    }
    if (kept == 0)
        return 1;
    qsort(times, kept, sizeof *times, by_size);
    printf("%llu %llu %u %u\n", (unsigned long long)count, (unsigned long long)elapsed, times[kept / 2],
           times[kept * 99 / 100]);
    return 0;
}
