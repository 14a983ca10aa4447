/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bus under threads, without KVM: readers dispatch while regions come and go.
 *
 *     bus_race ROUNDS
 *
 * A region's owner is freed right after bus_remove(), which AddressSanitizer and the
 * `alive` mark turn into a failure if a reader is still inside. Two readers also move
 * regions from within an op, at the same time, as two vCPUs do that program BARs.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bus_table.h"
#include "vm.h"

#define READERS 3
#define CONFIG_PORT 0xcf8u
#define CONFIG_PORTS 4u
#define BAR_PORT 0x1000u
#define BARS 4u
#define BAR_PORTS 8u
#define ALIVE 0x0a11fe00u

struct owner {
    _Atomic unsigned int alive;
    _Atomic unsigned int inside;
};

static kvmshim_vm machine;
static pthread_mutex_t bars_lock = PTHREAD_MUTEX_INITIALIZER;
static struct owner *bars[BARS];
static _Atomic unsigned int failures;
static _Atomic unsigned long claimed;
static _Atomic bool stopping;

static void touch(void *opaque)
{
    struct owner *owner = opaque;

    atomic_fetch_add(&owner->inside, 1);
    if (atomic_load(&owner->alive) != ALIVE)
        atomic_fetch_add(&failures, 1);
    for (volatile int i = 0; i < 200; i++)
        ;
    atomic_fetch_sub(&owner->inside, 1);
}

static void bar_read(void *opaque, uint64_t offset, uint8_t *data, uint32_t size)
{
    if (offset + size > BAR_PORTS)
        atomic_fetch_add(&failures, 1);
    touch(opaque);
    memset(data, 0, size);
}

static void bar_write(void *opaque, uint64_t offset, const uint8_t *data, uint32_t size)
{
    (void)offset, (void)data, (void)size;
    touch(opaque);
}

static const struct bus_ops bar_ops = {.read = bar_read, .write = bar_write};

/* Take a BAR out, free its owner at once, and put a new one in its place. */
static void move_bar(unsigned int which)
{
    uint64_t port = BAR_PORT + which * BAR_PORTS;
    struct owner *fresh = calloc(1, sizeof(*fresh));
    struct owner *old;

    atomic_store(&fresh->alive, ALIVE);
    pthread_mutex_lock(&bars_lock);
    old = bars[which];
    bars[which] = NULL;
    pthread_mutex_unlock(&bars_lock);
    if (old == NULL) { /* the other one is at it */
        free(fresh);
        return;
    }
    if (bus_remove(&machine, KVMSHIM_SPACE_PIO, port, NULL) < 0)
        atomic_fetch_add(&failures, 1);
    if (atomic_load(&old->inside) != 0)
        atomic_fetch_add(&failures, 1);
    atomic_store(&old->alive, 0);
    free(old);
    if (bus_add(&machine, KVMSHIM_SPACE_PIO, port, BAR_PORTS, &bar_ops, fresh, NULL) < 0)
        atomic_fetch_add(&failures, 1);
    pthread_mutex_lock(&bars_lock);
    bars[which] = fresh;
    pthread_mutex_unlock(&bars_lock);
}

static void config_read(void *opaque, uint64_t offset, uint8_t *data, uint32_t size)
{
    (void)opaque, (void)offset, (void)data, (void)size;
}

static void config_write(void *opaque, uint64_t offset, const uint8_t *data, uint32_t size)
{
    (void)opaque, (void)offset, (void)size;
    move_bar(data[0] % BARS);
}

static const struct bus_ops config_ops = {.read = config_read, .write = config_write};

static void *reader_thread(void *argument)
{
    struct vcpu *vcpu = argument;
    unsigned int seed = vcpu->index;
    uint8_t data[8];

    atomic_store(&vcpu->reader.thread, pthread_self());
    while (!atomic_load(&stopping)) {
        uint64_t address = BAR_PORT + (unsigned int)rand_r(&seed) % (BARS * BAR_PORTS + 4);
        uint32_t size = 1u << (unsigned int)rand_r(&seed) % 3;

        if (bus_dispatch(&machine.bus, &vcpu->reader, KVMSHIM_SPACE_PIO, address,
                         rand_r(&seed) % 2, data, size))
            atomic_fetch_add(&claimed, 1);
        if (vcpu->index != 0) {
            data[0] = (uint8_t)rand_r(&seed);
            bus_dispatch(&machine.bus, &vcpu->reader, KVMSHIM_SPACE_PIO, CONFIG_PORT, true, data,
                         1);
        }
    }
    return NULL;
}

int main(int argc, char **argv)
{
    long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : 1000;
    struct vcpu *vcpus[READERS];
    pthread_t threads[READERS];

    if (bus_init(&machine.bus) < 0)
        return 2;
    bus_add(&machine, KVMSHIM_SPACE_PIO, CONFIG_PORT, CONFIG_PORTS, &config_ops, NULL, NULL);
    for (unsigned int i = 0; i < BARS; i++) {
        bars[i] = calloc(1, sizeof(*bars[i]));
        atomic_store(&bars[i]->alive, ALIVE);
        bus_add(&machine, KVMSHIM_SPACE_PIO, BAR_PORT + i * BAR_PORTS, BAR_PORTS, &bar_ops,
                bars[i], NULL);
    }
    for (uint32_t i = 0; i < READERS; i++) {
        vcpus[i] = aligned_alloc(_Alignof(struct vcpu), sizeof(struct vcpu));
        memset(vcpus[i], 0, sizeof(*vcpus[i]));
        vcpus[i]->index = i;
        machine.vcpus[i] = vcpus[i];
        atomic_store(&machine.vcpu_count, i + 1);
    }
    for (unsigned int i = 0; i < READERS; i++)
        pthread_create(&threads[i], NULL, reader_thread, vcpus[i]);
    /* On a busy machine the readers may come late: the rounds only count with them. */
    for (long i = 0; i < rounds || atomic_load(&claimed) < (unsigned long)rounds; i++)
        move_bar((unsigned int)i % BARS);
    atomic_store(&stopping, true);
    for (unsigned int i = 0; i < READERS; i++)
        pthread_join(threads[i], NULL);
    for (unsigned int i = 0; i < READERS; i++)
        free(vcpus[i]);
    for (unsigned int i = 0; i < BARS; i++)
        free(bars[i]);
    atomic_store(&machine.vcpu_count, 0);
    bus_free(&machine.bus);
    printf("%lu claimed, %u failures\n", atomic_load(&claimed), atomic_load(&failures));
    return atomic_load(&failures) != 0;
}
