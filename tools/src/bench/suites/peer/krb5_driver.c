/*
 * Load for MIT krb5's KDC: CALLERS processes, each asking again as soon as it was answered, for SPAN_MS.
 *
 *   krb5_driver as|tgs|pkinit CALLERS SPAN_MS PRINCIPAL SECRET [SERVICE]
 *
 * as:     a ticket-granting ticket with encrypted-timestamp preauthentication, from the keytab SECRET. A password
 *         would be stretched by each caller for each request, and the callers be measured instead of the KDC.
 * pkinit: a ticket-granting ticket with PKINIT, by the certificate and key SECRET (FILE:certificate,key).
 * tgs:    a ticket for SERVICE under one ticket-granting ticket; nothing is cached, so each one is asked for.
 *
 * Prints one line, COUNT ELAPSED_US. Callers are processes, since a libkrb5 context is of one thread. Any failed
 * request fails the whole run: a rate that hides refusals says nothing.
 */
#include <krb5.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#define MOST_CALLERS 256
#define MOST_SPAN_MS 600000

enum ask { AS, TGS, PKINIT };

static uint64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

static void must(krb5_context ctx, krb5_error_code code, const char *what) {
    if (code == 0)
        return;
    fprintf(stderr, "%s: %s\n", what, krb5_get_error_message(ctx, code));
    _exit(1);
}

struct caller {
    krb5_context ctx;
    krb5_principal who, service;
    krb5_keytab keytab;
    krb5_get_init_creds_opt *identity;
    krb5_ccache cache;
};

static void prepare(struct caller *own, enum ask ask, char **names) {
    if (krb5_init_context(&own->ctx) != 0)
        _exit(1);
    krb5_context ctx = own->ctx;
    must(ctx, krb5_parse_name(ctx, names[0], &own->who), "principal");
    if (ask == PKINIT) {
        must(ctx, krb5_get_init_creds_opt_alloc(ctx, &own->identity), "options");
        must(ctx, krb5_get_init_creds_opt_set_pa(ctx, own->identity, "X509_user_identity", names[1]), "identity");
    } else {
        must(ctx, krb5_kt_resolve(ctx, names[1], &own->keytab), "keytab");
    }
}

static void log_in(struct caller *own, enum ask ask, krb5_creds *creds) {
    krb5_context ctx = own->ctx;
    memset(creds, 0, sizeof *creds);
    /* Without a password and somebody to ask for one, nothing but the certificate can succeed. */
    if (ask == PKINIT)
        must(ctx, krb5_get_init_creds_password(ctx, creds, own->who, NULL, NULL, NULL, 0, NULL, own->identity),
             "AS-REQ with PKINIT");
    else
        must(ctx, krb5_get_init_creds_keytab(ctx, creds, own->who, own->keytab, 0, NULL, NULL), "AS-REQ");
}

static void log_in_once(struct caller *own, char *service) {
    krb5_context ctx = own->ctx;
    krb5_creds creds;
    must(ctx, krb5_parse_name(ctx, service, &own->service), "service");
    log_in(own, AS, &creds);
    must(ctx, krb5_cc_new_unique(ctx, "MEMORY", NULL, &own->cache), "cache");
    must(ctx, krb5_cc_initialize(ctx, own->cache, own->who), "cache");
    must(ctx, krb5_cc_store_cred(ctx, own->cache, &creds), "cache");
    krb5_free_cred_contents(ctx, &creds);
}

static void one(struct caller *own, enum ask ask) {
    if (ask == TGS) {
        krb5_creds in, *out;
        memset(&in, 0, sizeof in);
        in.client = own->who;
        in.server = own->service;
        must(own->ctx, krb5_get_credentials(own->ctx, KRB5_GC_NO_STORE, own->cache, &in, &out), "TGS-REQ");
        krb5_free_creds(own->ctx, out);
    } else {
        krb5_creds creds;
        log_in(own, ask, &creds);
        krb5_free_cred_contents(own->ctx, &creds);
    }
}

static void call(uint64_t *count, enum ask ask, uint64_t span, int ready, int go, char **names) {
    struct caller own;
    char byte = 0;
    memset(&own, 0, sizeof own);
    prepare(&own, ask, names);
    if (ask == TGS)
        log_in_once(&own, names[2]);
    if (write(ready, &byte, 1) != 1)
        _exit(1);
    close(ready);
    /* Ends when the parent closes its side: all begin at once. */
    if (read(go, &byte, 1) != 0)
        _exit(1);
    uint64_t end = now_us() + span;
    while (now_us() < end) {
        one(&own, ask);
        ++*count;
    }
    _exit(0);
}

static int usage(void) {
    fprintf(stderr, "usage: krb5_driver as|tgs|pkinit CALLERS SPAN_MS PRINCIPAL SECRET [SERVICE]\n");
    return 2;
}

int main(int argc, char **argv) {
    if (argc < 6 || argc > 7)
        return usage();
    enum ask ask;
    if (strcmp(argv[1], "as") == 0)
        ask = AS;
    else if (strcmp(argv[1], "pkinit") == 0)
        ask = PKINIT;
    else if (strcmp(argv[1], "tgs") == 0 && argc == 7)
        ask = TGS;
    else
        return usage();
    long callers = atol(argv[2]), span = atol(argv[3]);
    if (callers < 1 || callers > MOST_CALLERS || span < 1 || span > MOST_SPAN_MS)
        return usage();
    size_t bytes = (size_t)callers * sizeof(uint64_t);
    uint64_t *counts = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int ready[2], go[2];
    if (counts == MAP_FAILED || pipe(ready) != 0 || pipe(go) != 0) {
        perror("krb5_driver");
        return 1;
    }
    for (long i = 0; i < callers; i++) {
        pid_t child = fork();
        if (child < 0) {
            perror("fork");
            return 1;
        }
        if (child == 0) {
            /* Nobody calls on when the parent is gone. */
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            close(ready[0]);
            close(go[1]);
            call(&counts[i], ask, (uint64_t)span * 1000u, ready[1], go[0], argv + 4);
        }
    }
    close(ready[1]);
    char byte;
    for (long i = 0; i < callers; i++)
        if (read(ready[0], &byte, 1) != 1)
            return 1; /* A caller ended and has said why. */
    uint64_t started = now_us();
    close(go[1]);
    int failed = 0, status;
    while (wait(&status) > 0)
        failed |= status;
    uint64_t elapsed = now_us() - started, count = 0;
    if (failed)
        return 1;
    for (long i = 0; i < callers; i++)
        count += counts[i];
    printf("%llu %llu\n", (unsigned long long)count, (unsigned long long)elapsed);
    return 0;
}
