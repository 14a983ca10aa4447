/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Token buckets that keep time instead of tokens: a bucket is the moment at which it will be
 * full again, and what is taken moves that moment away by the time its tokens take to come
 * back. Nothing is rounded but nanoseconds, and nothing has to be refilled by a timer.
 */
#include "limiter.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>

#include "device.h"
#include "error.h"
#include "kvm_shim_virtio.h"

#define NS_PER_MS UINT64_C(1000000)
/* Whoever has to wait comes back to this much at least, not to a single token: it is woken a
 * thousand times a second at most, and works through a batch then. */
#define BATCH_NS NS_PER_MS
/* A bucket of a shorter refill time would overflow while who waits for it is being woken, and
 * give less than its rate. It holds more, but begins with no more than its size. */
#define CAPACITY_MIN_NS (50 * NS_PER_MS)
#define REFILL_MAX_MS (UINT64_C(1) << 40)
/* Thousands of years; sums of two stay below 2^63. */
#define DEBT_MAX_NS (UINT64_C(1) << 61)

struct bucket {
    uint64_t size; /* 0: no limit */
    uint64_t refill_ns;
    uint64_t capacity_ns;
    uint64_t burst_max, burst; /* the one-time burst, and what is left of it */
    uint64_t full_at;
};

struct limiter {
    kvmshim_device device;
    pthread_mutex_t lock;
    struct bucket bandwidth, operations;
};

struct bucket_state {
    uint64_t missing_ns; /* until it is full */
    uint64_t burst;
} __attribute__((packed));

struct limiter_state {
    struct bucket_state bandwidth, operations;
} __attribute__((packed));

/* ---- one bucket ----------------------------------------------------------- */

static int bucket_init(struct bucket *bucket, const kvmshim_bucket *config, const char *name,
                       kvmshim_error *err)
{
    if (config->size == 0)
        return 0;
    if (config->refill_ms == 0 || config->refill_ms > REFILL_MAX_MS)
        return error_set(err, -EINVAL, "limiter: %s refills in %" PRIu64 " ms, not 1 to %" PRIu64,
                         name, config->refill_ms, REFILL_MAX_MS);
    bucket->size = config->size;
    bucket->refill_ns = config->refill_ms * NS_PER_MS;
    bucket->capacity_ns = bucket->refill_ns;
    if (bucket->capacity_ns < CAPACITY_MIN_NS)
        bucket->capacity_ns = CAPACITY_MIN_NS;
    bucket->burst_max = config->one_time_burst;
    bucket->burst = config->one_time_burst;
    bucket->full_at = machine_now_ns() + bucket->capacity_ns - bucket->refill_ns;
    return 0;
}

/* How long until there are tokens; 0: there are. */
static uint64_t bucket_wait(const struct bucket *bucket, uint64_t now)
{
    uint64_t token_ns, with_one;

    if (bucket->size == 0 || bucket->burst > 0)
        return 0;
    token_ns = bucket->refill_ns / bucket->size;
    with_one = now + bucket->capacity_ns - token_ns; /* when full_at is no later */
    return bucket->full_at <= with_one ? 0 : bucket->full_at - with_one + BATCH_NS;
}

static uint64_t bucket_time(const struct bucket *bucket, uint64_t tokens)
{
    unsigned __int128 ns = (unsigned __int128)tokens * bucket->refill_ns / bucket->size;

    return ns < DEBT_MAX_NS ? (uint64_t)ns : DEBT_MAX_NS;
}

static void bucket_take(struct bucket *bucket, uint64_t tokens, uint64_t now)
{
    uint64_t burst = tokens < bucket->burst ? tokens : bucket->burst;

    if (bucket->size == 0)
        return;
    bucket->burst -= burst;
    if (bucket->full_at < now)
        bucket->full_at = now;
    bucket->full_at += bucket_time(bucket, tokens - burst);
}

/* What came out of the burst comes back as ordinary tokens. */
static void bucket_return(struct bucket *bucket, uint64_t tokens)
{
    uint64_t ns;

    if (bucket->size == 0)
        return;
    ns = bucket_time(bucket, tokens);
    bucket->full_at -= ns < bucket->full_at ? ns : bucket->full_at;
}

/* ---- what devices call ---------------------------------------------------- */

uint64_t limiter_take(struct limiter *limiter, uint64_t bytes, uint64_t operations)
{
    uint64_t now, wait, other;

    if (limiter == NULL)
        return 0;
    now = machine_now_ns();
    pthread_mutex_lock(&limiter->lock);
    wait = bucket_wait(&limiter->bandwidth, now);
    other = bucket_wait(&limiter->operations, now);
    if (wait < other)
        wait = other;
    if (wait == 0) {
        bucket_take(&limiter->bandwidth, bytes, now);
        bucket_take(&limiter->operations, operations, now);
    }
    pthread_mutex_unlock(&limiter->lock);
    return wait;
}

void limiter_return(struct limiter *limiter, uint64_t bytes, uint64_t operations)
{
    if (limiter == NULL)
        return;
    pthread_mutex_lock(&limiter->lock);
    bucket_return(&limiter->bandwidth, bytes);
    bucket_return(&limiter->operations, operations);
    pthread_mutex_unlock(&limiter->lock);
}

/* ---- the device ----------------------------------------------------------- */

static void bucket_save(const struct bucket *bucket, struct bucket_state *saved)
{
    uint64_t now = machine_now_ns();

    saved->missing_ns = bucket->full_at > now ? bucket->full_at - now : 0;
    saved->burst = bucket->burst;
}

static void limiter_save(kvmshim_device *device, void *state)
{
    const struct limiter *limiter = (const struct limiter *)device;
    struct limiter_state *saved = state;

    bucket_save(&limiter->bandwidth, &saved->bandwidth);
    bucket_save(&limiter->operations, &saved->operations);
}

static int bucket_check(const struct bucket *bucket, const struct bucket_state *saved,
                        const char *name, kvmshim_error *err)
{
    uint64_t missing_max = bucket->size == 0 ? 0 : bucket->capacity_ns + DEBT_MAX_NS;

    if (saved->missing_ns > missing_max || saved->burst > bucket->burst_max)
        return error_set(err, -EINVAL,
                         "limiter state: %s lacks %" PRIu64 " ns and has a burst of %" PRIu64, name,
                         saved->missing_ns, saved->burst);
    return 0;
}

static void bucket_load(struct bucket *bucket, const struct bucket_state *saved)
{
    bucket->full_at = bucket->size == 0 ? 0 : machine_now_ns() + saved->missing_ns;
    bucket->burst = saved->burst;
}

static int limiter_load(kvmshim_device *device, const void *state, kvmshim_error *err)
{
    struct limiter *limiter = (struct limiter *)device;
    const struct limiter_state *saved = state;
    int rc = bucket_check(&limiter->bandwidth, &saved->bandwidth, "bandwidth", err);

    if (rc == 0)
        rc = bucket_check(&limiter->operations, &saved->operations, "operations", err);
    if (rc < 0)
        return rc;
    bucket_load(&limiter->bandwidth, &saved->bandwidth);
    bucket_load(&limiter->operations, &saved->operations);
    return 0;
}

static void limiter_destroy(kvmshim_device *device)
{
    struct limiter *limiter = (struct limiter *)device;

    pthread_mutex_destroy(&limiter->lock);
    free(limiter);
}

static const struct device_ops limiter_ops = {
    .name = "limiter",
    .version = 1,
    .state_size = sizeof(struct limiter_state),
    .save = limiter_save,
    .load = limiter_load,
    .destroy = limiter_destroy,
};

int limiter_of(kvmshim_device *device, struct limiter **limiter, kvmshim_error *err)
{
    *limiter = NULL;
    if (device != NULL && device->ops != &limiter_ops)
        return error_set(err, -EINVAL, "a %s is no rate limiter", device->ops->name);
    *limiter = (struct limiter *)device;
    return 0;
}

int kvmshim_limiter_create(kvmshim_vm *vm, const kvmshim_bucket *bandwidth,
                           const kvmshim_bucket *operations, kvmshim_device **limiter,
                           kvmshim_error *err)
{
    struct limiter *created = calloc(1, sizeof(*created));
    int rc;

    if (created == NULL)
        return error_set(err, -ENOMEM, "limiter: allocate");
    rc = bucket_init(&created->bandwidth, bandwidth, "bandwidth", err);
    if (rc == 0)
        rc = bucket_init(&created->operations, operations, "operations", err);
    if (rc < 0) {
        free(created);
        return rc;
    }
    pthread_mutex_init(&created->lock, NULL);
    device_register(vm, &created->device, &limiter_ops);
    if (limiter != NULL)
        *limiter = &created->device;
    return 0;
}
